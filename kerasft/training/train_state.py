"""How far a run has come, and its way to disk and back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.console import console
from kerasft.settings.errors import UserError, counted
from kerasft.storage import checkpoints
from kerasft.strategies.phases import Phase
from kerasft.training.weight_interpolation import Weights


@dataclass
class TrainState:
    """How far a run has come: all but the arrays of what a checkpoint holds.

    Attributes:
        run: an identifier, which the export bears.
        data: digest of the splits.
        settled: what `auto` chose: the `--augment` Spec, and the `speed` that it measured.
        records: one dict a finished phase, as in `metrics.json`.
        phase, epoch, step: index of the phase under way, its epochs that are done, and the steps of the next one.
        seconds: spent in it.
        before, best: loss and score on validation at its start, and after its best epoch.
        first_loss: of its first batch.
        losses: on validation after each of its epochs.
        micro_batches: that a step is done in, where it does not fit into memory as a whole.
        lr_backoffs: times that it fell back to its best weights at a lower rate.
        begun: steps of the phase that were done when its optimizer was made: 0, until it falls back.
        history: lines of `history.jsonl`.
        saves: checkpoints written.
    """

    run: str
    data: str
    settled: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    phase: int = 0
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    before: tuple[float, float] | None = None
    best: tuple[float, float] | None = None
    first_loss: float | None = None
    losses: list[float] = field(default_factory=list)
    micro_batches: int = 1
    lr_backoffs: int = 0
    begun: int = 0
    history: int = 0
    saves: int = 0

    def place(self, planned: list[Phase]) -> str:
        """Where the run stands among its phases, in words."""
        if self.phase == len(planned):
            return "all phases are done"
        phase = planned[self.phase]
        text = f"phase {self.phase + 1} of {len(planned)} ({phase.kind})"
        if not phase.epochs:
            return text
        if self.epoch == phase.epochs:
            return f"{text}, after its last epoch"
        text += f", epoch {self.epoch + 1} of {phase.epochs}"
        return text + (f", after {counted(self.step, 'step')} of it" if self.step else "")


def save(folder: Path, model: keras.Model, state: TrainState, arrays: dict[str, Weights]) -> None:
    """Writes the checkpoint: the model's variables (seeds of dropout included), these arrays, and the standing."""
    variables = [np.asarray(value) for value in model.variables]
    checkpoints.save(folder, {"variables": variables, **arrays}, asdict(state), state.saves)
    state.saves += 1


def resume(folder: Path, model: keras.Model, data: str) -> tuple[TrainState, dict[str, Weights]] | None:
    """Gives the model its variables of the last checkpoint; the standing and the other arrays, None without one.

    Args:
        data: digest of the splits as they are now.

    Raises:
        UserError: the data have changed, or both checkpoints are damaged.
    """
    restored = checkpoints.load(folder)
    if restored is None:
        return None
    arrays, notes, serial, damaged = restored
    if damaged:
        console.say(f"warning: {folder / damaged} is damaged; going on from the checkpoint beside it")
    state = TrainState(**{**notes, "saves": serial + 1})
    if state.data != data:
        rule = f"the pictures have changed since the run in '{folder}' was stopped; start again with --noresume"
        raise UserError(f"--data: {rule}. Received: digest {data}, not {state.data}")
    assign(model.variables, arrays.pop("variables"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its variables
    return state, arrays


def assign(variables: list, values: Weights) -> None:
    """Gives variables their values, one by one."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
