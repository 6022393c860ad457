"""How the inputs of a phase are cached: planned once, written to `settled.json`, and the same on resume."""

from kerasft.console import console
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError
from kerasft.storage import feature_cache
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training import distillation, phase_inputs
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.train_setup import TrainSetup


def prepare(setup: TrainSetup, network: Network, name: str, phase: Phase, resolved: ResolvedSettings) -> PhaseInputs:
    """The inputs of a phase, as they were planned when it first began.

    Args:
        network: that the phase trains.
        name: of the phase, such as `02-all`.
        resolved: where the plan is kept.

    Raises:
        UserError: the disk is full, or the precision does not hold the activations.
    """
    if name not in resolved.cached:
        plan = phase_inputs.plan(network, setup.splits, phase, setup.cache)
        resolved.cached[name] = list(plan)
        resolved.write(setup.folder)
        if phase.epochs and phase.freezes:
            console.say(f"{name}: {plan.reason}" if plan.views else f"{name}: not cached, {plan.reason}")
    plan = phase_inputs.Plan(*resolved.cached[name])
    try:
        inputs = phase_inputs.build(network, setup.splits, phase, setup.config.seed, setup.cache, plan)
    except feature_cache.RangeError as error:
        tried = plan.dtype
        plan = phase_inputs.plan(network, setup.splits, phase, setup.cache, halved=False)
        if plan.views and plan.dtype == tried:
            rule = f"activations of the frozen layers are too large for {tried}; float32 and mixed_bfloat16 hold them"
            raise UserError(f"--precision: {rule}. Received: {setup.config.precision!r}") from error
        resolved.cached[name] = list(plan)
        resolved.write(setup.folder)
        console.say(f"{name}: {error}; {plan.reason if plan.views else f'not cached, {plan.reason}'}")
        inputs = phase_inputs.build(network, setup.splits, phase, setup.config.seed, setup.cache, plan)
    return distillation.with_teacher_answers(setup, network, phase, inputs)
