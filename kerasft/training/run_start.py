"""The start of training: what a new run is given, or where a checkpoint left it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kerasft.data.splits import Splits
from kerasft.networks import network as networks
from kerasft.networks.depths import with_depths
from kerasft.networks.network import Network
from kerasft.optimization import averages
from kerasft.probes import probe_findings
from kerasft.settings.config import Config
from kerasft.storage import audit_file
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.budget import Allowance
from kerasft.training import (
    budgeting,
    checkpointer,
    distillation,
    resolve,
    soup,
    train_setup,
)
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.train_setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights


class Begun(NamedTuple):
    """A run before its next phase.

    Attributes:
        setup: of the run.
        state: new, or of the checkpoint.
        arrays: of a phase under way, or the `solution` of the probe.
        saver: writes the checkpoints.
        allowance: of `--budget_minutes`, less what earlier starts took; or None.
        resumed: whether there was a checkpoint.
        solution, solution_seconds, earlier_seconds: as in `trainer.Trained`.
    """

    setup: TrainSetup
    state: TrainState
    arrays: dict[str, Weights]
    saver: Checkpointer
    allowance: Allowance | None
    resumed: bool
    solution: Weights | None
    solution_seconds: float
    earlier_seconds: float


def start_or_resume(
    config: Config,
    network: Network,
    splits: Splits,
    folder: Path,
    resolved: ResolvedSettings,
    allowance: Allowance | None,
    began: float,
) -> Begun:
    """Starts a run, or reads where it was stopped. Arguments are those of `trainer.train`.

    Raises:
        UserError: the data of a stopped run have changed, or a run of `--average=soup(runs=)` is of another network.
    """
    setup = train_setup.prepare(config, network, splits, folder)
    runs = averages.runs_of(averages.build(setup.average))
    soup.check_runs(runs)
    restored = checkpointer.read(folder, splits.digest)
    known = restored[0].resolved if restored else resolved
    setup, resolved = resolve.load_teacher_and_pixels(setup, known, resumed=restored is not None)
    if restored:
        state, arrays = restored
        distillation.check_unchanged(setup, state.resolved)
        features = tuple(state.resolved.features) or network.depths
        setup = replace(setup, network=with_depths(network, config, features))
        allowance = budgeting.resumed_allowance(allowance, state)
    else:
        budgeting.record_start(resolved, allowance)
        setup, state, arrays = resolve.new_state(setup, resolved)
        # Trials of a search have no audit of their own.
        if (folder / audit_file.FILE_NAME).is_file():
            audit_file.add(
                folder, probe_findings.examine(setup.network, splits.train, splits.classes, config.seed, setup.cache)
            )
    network, solution, solution_seconds = setup.network, arrays.get("solution"), state.seconds
    # Checkpoints of earlier versions do not say what came before the phases.
    earlier = max(state.spent, state.phase_seconds) if restored else 0.0
    saver = Checkpointer(folder, network.model, began - earlier)
    if restored:
        arrays = saver.restore(arrays)
    if state.resolved.pixels:
        networks.set_pixel_statistics(network, *state.resolved.pixels)
    for run in runs:
        # A run of another network is refused now, not after the phase.
        soup.check_run(run, splits.digest, state.resolved.to_json(), config.head)
        soup.read_run(run, network)
    return Begun(setup, state, arrays, saver, allowance, restored is not None, solution, solution_seconds, earlier)
