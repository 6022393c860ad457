"""Checkpoints of a run: its state and weights, saved so that a killed run goes on."""

import time
from pathlib import Path

import keras
import numpy as np

from kerasft.console import console
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights

# Seconds between two checkpoints at most, as far as the length of a step allows.
MAX_SECONDS_BETWEEN_CHECKPOINTS = 60.0

# Where epochs are short, this many times the seconds of a checkpoint pass before the next one.
MIN_INTERVAL_IN_CHECKPOINTS = 20.0


class Checkpointer:
    """Saves the state of a run into two files, written in turn.

    Args:
        folder: the run folder.
        model: whose variables are saved, the seeds of dropout among them.
        began: moment of the monotonic clock at which the run would have begun in one go; by default now.
    """

    def __init__(self, folder: Path, model: keras.Model, began: float | None = None):
        self.folder, self.model = folder, model
        self._saved_at, self._cost = time.monotonic(), 0.0
        self._began = self._saved_at if began is None else began

    def save(self, state: TrainState, arrays: dict[str, Weights] | None = None) -> None:
        """Saves the state, the model's variables, and other arrays by name."""
        began = time.monotonic()
        state.spent = round(began - self._began, 3)
        variables = [np.asarray(value) for value in self.model.variables]
        checkpoints.save(self.folder, {"variables": variables, **(arrays or {})}, state.to_json(), state.saves)
        state.saves += 1
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began

    def restart_clock(self) -> None:
        """Counts the time to the next checkpoint from now."""
        self._saved_at = time.monotonic()

    def due_within_epoch(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return time.monotonic() - self._saved_at > MAX_SECONDS_BETWEEN_CHECKPOINTS

    def due_after_epoch(self) -> bool:
        """Whether a checkpoint is worth its time after an epoch."""
        waited = time.monotonic() - self._saved_at
        return waited > min(MAX_SECONDS_BETWEEN_CHECKPOINTS, MIN_INTERVAL_IN_CHECKPOINTS * self._cost)

    def restore(self, arrays: dict[str, Weights]) -> dict[str, Weights]:
        """Gives the model the variables of a checkpoint that `read` gave; returns its other arrays."""
        arrays = dict(arrays)
        assign(self.model.variables, arrays.pop("variables"))
        for layer in self.model.layers:
            # It computes with copies of its variables.
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
        return arrays


def read(folder: Path, data_digest: str) -> tuple[TrainState, dict[str, Weights]] | None:
    """Reads the last checkpoint of a run folder.

    Args:
        data_digest: digest of the splits as they are now.

    Returns:
        The state, and arrays by name, the model's `variables` among them; None if there is no checkpoint.

    Raises:
        UserError: the data have changed, both checkpoints are damaged, or another version of kerasft wrote them.
    """
    stored = checkpoints.load(folder)
    if stored is None:
        return None
    arrays, values, serial, damaged = stored
    if damaged:
        console.say(f"warning: {folder / damaged} is damaged; going on from the other checkpoint")
    state = TrainState.from_json(values)
    state.saves = serial + 1
    if state.data_digest != data_digest:
        rule = f"the images have changed since the run in '{folder}' was stopped; start again with --noresume"
        raise UserError(f"--data: {rule}. Received: digest {data_digest}, not {state.data_digest}")
    return state, arrays


def assign(variables: list, values: Weights) -> None:
    """Gives variables their values, one by one."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
