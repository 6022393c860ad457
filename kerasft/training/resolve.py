"""What `auto` resolves before the first phase: the depths that the head sees, the probe, the phases, how steps compute."""

import itertools
import uuid
from dataclasses import replace

from kerasft.console import console
from kerasft.networks import network as networks
from kerasft.optimization import optimizers
from kerasft.probes import depth_choice
from kerasft.settings import spec as specs
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import planning
from kerasft.strategies.phase import Phase
from kerasft.training import autotune, distillation, domain_shift, head_init, train_setup
from kerasft.training.train_setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights


def load_teacher_and_pixels(
    setup: TrainSetup, resolved: ResolvedSettings, *, resumed: bool = False
) -> tuple[TrainSetup, ResolvedSettings]:
    """The setup with its teacher, and what is resolved with the pixel statistics of `--preprocessing=dataset`.

    The network has these first: without them its features are NaN, and `features` of `--distill` are fitted to them.

    Args:
        resumed: whether the run goes on, with the statistics that it began with.

    Raises:
        UserError: as `distillation.with_teacher`.
    """
    if setup.config.preprocessing == "dataset" and not resumed:
        resolved = replace(resolved, pixels=head_init.pixel_statistics(setup.splits.train, setup.network.size))
    if resolved.pixels:
        networks.set_pixel_statistics(setup.network, *resolved.pixels)
    return distillation.with_teacher(setup), resolved


def new_state(setup: TrainSetup, resolved: ResolvedSettings) -> tuple[TrainSetup, TrainState, dict[str, Weights]]:
    """A new run: its setup with the depths that the head sees, its state, and the probe's solution as `solution`.

    Raises:
        UserError: as `train_setup.check_quantile`.
    """
    config, network, splits = setup.config, setup.network, setup.splits
    train_setup.check_quantile(config, network, splits)
    distillation.note(setup, resolved)
    soft_targets = distillation.soft_targets_of_probe(setup)
    choice = depth_choice.choose(config, network, splits, setup.cache, setup.example_weights, soft_targets)
    setup = replace(setup, network=choice.network)
    planned, _ = planning.plan(config, setup.network, len(splits.train))
    start = head_init.prepare(
        config,
        setup.network,
        splits,
        setup.scorer,
        setup.cache,
        setup.example_weights,
        soft_targets=soft_targets,
        solution=choice.solution,
        augmented=any(phase.epochs for phase in planned),
        automatic=any(phase.epochs and _is_automatic(phase) for phase in planned),
        head_first=not planned[0].trains_backbone,
    )
    resolved = replace(
        resolved,
        features=list(setup.network.depths),
        features_table=list(choice.table),
        features_reason=choice.reason,
        augment=start.augment,
        augment_reason=start.reason,
        speed=start.speed,
    )
    seconds = choice.seconds + start.seconds
    state = TrainState(uuid.uuid4().hex, splits.digest, resolved, seconds=seconds)
    return setup, state, {"solution": list(start.solution)} if start.solution else {}


def plan_phases(setup: TrainSetup, resolved: ResolvedSettings) -> tuple[list[Phase], TrainSetup]:
    """The phases, and the setup with the batch size that is resolved; `settled.json` is written.

    A resumed run takes what it began with.

    Raises:
        UserError: an optimizer accumulates more gradients than its phase has steps.
    """
    config, network = setup.config, setup.network
    count = len(train_setup.with_unlabelled_train(setup).splits.train)
    if resolved.batch_size is None:
        longest = _longest(planning.plan(config, network, count)[0])
        choice = autotune.batch_size(config, network, longest, count)
        resolved.batch_size, resolved.batch_size_reason = choice.value, choice.reason
        _say_choice("batch size", choice)
    setup = train_setup.with_batch_size(setup, resolved.batch_size)
    setup = replace(setup, config=replace(config, batch_size=resolved.batch_size))
    phase_setup = train_setup.with_unlabelled_train(setup)
    planned = planning.resumed(config, resolved.phases)
    if not planned:
        speed = None if config.deterministic else resolved.speed
        if planning.has_auto(config):
            resolved.shift = domain_shift.measure(network, setup.splits.train)
        planned, reason = planning.plan(setup.config, network, count, speed, resolved.shift)
        console.say(f"phases: {reason}")
        kept = train_setup.judgeable(setup, planned)
        # By place, for a phase may stand there twice.
        pairs = itertools.zip_longest(planned, kept)
        resolved.dropped_phases = [str(phase) for phase, left in pairs if phase != left]
        planned = kept
        # A phase of too few steps is reported before the first one is trained.
        for phase in planned:
            if phase.epochs:
                optimizers.check_accumulation(phase.optimizer, phase.epochs * phase_setup.steps_per_epoch)
    if resolved.jit is None:
        # Those of a head on cached features take no time that compiling could win.
        deep = [phase for phase in planned if phase.trains_backbone and not phase.conditional]
        steps = phase_setup.steps_per_epoch * sum(phase.epochs for phase in deep)
        choice = autotune.compiled(config, network, _longest(planned), phase_setup.batch_size, steps)
        resolved.jit, resolved.jit_reason = choice.value, choice.reason
        _say_choice("jit", choice)
    planned = [_with_augmentation(phase, resolved) for phase in planned]
    distillation.check_phases(setup, planned)
    resolved.phases = [str(phase) for phase in planned]
    resolved.write(setup.folder)
    return planned, setup


def _longest(planned: list[Phase]) -> Phase | None:
    """The phase of most epochs among those that train the backbone: its steps are measured."""
    deep = [phase for phase in planned if phase.epochs and phase.trains_backbone]
    return max(deep, key=lambda phase: phase.epochs, default=None)


def _say_choice(name: str, choice: autotune.MeasuredChoice) -> None:
    if choice.seconds:
        console.say(f"{name}: {choice.value} ({choice.reason})")


def _with_augmentation(phase: Phase, resolved: ResolvedSettings) -> Phase:
    return replace(phase, augment=specs.parse(resolved.augment, "--augment")) if _is_automatic(phase) else phase


def _is_automatic(phase: Phase) -> bool:
    """Whether a phase of a plan has `augment=auto`, its own or the flag's."""
    return [str(spec) for spec in phase.augment] == ["auto"]
