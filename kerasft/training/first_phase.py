"""The first phase that trains, at its start: what is measured before a run."""

from pathlib import Path

from kerasft.data.splits import Splits
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, counted
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.storage.run_folder import History
from kerasft.strategies import freezing
from kerasft.strategies.phase import Phase
from kerasft.strategies.variables import phase_network
from kerasft.training import block_choice, resolve, train_setup, trainer
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_run import PhaseRun


def first_phase(
    config: Config, network: Network, splits: Splits, folder: Path, resolved: ResolvedSettings
) -> tuple[PhaseRun, list[Phase]]:
    """The first phase that has epochs, at its start after those that have none; and all phases. Arguments as in `trainer.train`.

    Raises:
        UserError: no phase has epochs, or too few validation images would judge it, so that a run leaves it out.
    """
    setup, state, arrays = resolve.new_state(
        *resolve.load_teacher_and_pixels(train_setup.prepare(config, network, splits, folder), resolved)
    )
    network = setup.network
    planned, setup = resolve.plan_phases(setup, state.resolved)
    phase_setup = train_setup.with_unlabelled_train(setup)
    checkpointer, history = Checkpointer(folder, network.model), History(folder / "history.jsonl", 0)
    for index, phase in enumerate(planned):
        phase = planned[index] = block_choice.resolve(setup, phase) if phase.unfreeze is None else phase
        trained = phase_network(network, phase)
        counts = freezing.apply(trained, phase)
        run = trainer.begin_phase(phase_setup, trained, planned, index, state, checkpointer, history, arrays)
        if phase.epochs:
            if "solution" in arrays:
                trainer.take_solution(run, arrays["solution"])
            return run, planned
        trainer.run_phase(run, arrays)
        state, arrays = state.after(trainer.finish_phase(run, *counts)), {}
    if state.resolved.dropped_phases:
        rule = f"at least {MIN_VALIDATION_IMAGES} validation images are needed; with fewer a run trains no phase after the solved head"
        raise UserError(f"--data: {rule}. Received: {counted(len(splits.val), 'validation image')}")
    raise UserError(
        f"--phases: a phase with epochs is needed, for nothing else has a rate. Received: {config.phases!r}"
    )
