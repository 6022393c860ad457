"""Follows the health of a phase: before its first epoch, after its last one, and between them where that costs little."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasft.training import health_probe
from kerasft.training.health_probe import Measurement
from kerasft.training.phase_run import PhaseRun

# Between two measurements there are at least so many steps, so that they take at most a few percent of the time.
MIN_STEPS_BETWEEN = 150

# The titles of a block's figures in TensorBoard.
_TITLES = {"gradient": "gradient_norm", "update": "update_to_weight", "scale": "activation_rms", "dead": "dead_units"}


class HealthCallback(keras.callbacks.Callback):
    """Measures a phase and keeps the first and the last measurement in its state.

    A row's `update` is the norm of the change of a block's weights in one step, divided by the norm of its weights. It is taken in
    the middle of an epoch. What is kept is the largest so far.

    Args:
        run: the phase that is fitted. Its `state.health` changes.
    """

    def __init__(self, run: PhaseRun):
        super().__init__()
        self.run = run
        places = health_probe.block_of_each(run.network)
        self._variables = health_probe.trained_by_block(places, run.model)
        self._weights = health_probe.weights_by_block(places, run.model)
        self._updates: dict[str, float] = {}
        self._before: dict[str, list[np.ndarray]] | None = None
        self._calls = self._window = 0
        self._measured_at = 0
        # The probe holds a batch, which may not fit into memory during training.
        self._probe = _if_memory_allows(lambda: health_probe.make_probe(run))
        if not run.state.health:
            self._measure()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._calls, self._before = 0, None
        accumulated = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer).gradient_accumulation_steps
        # So many calls make one step.
        self._window = accumulated or 1
        calls = self.run.setup.steps_per_epoch * self.run.state.micro_batches // self.model.steps_per_execution
        self._first_call = calls // 2 // self._window * self._window

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._calls == self._first_call:
            self._before = {name: [np.array(one) for one in group] for name, group in self._variables.items()}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._calls += 1
        if self._before and self._calls == self._first_call + self._window:
            for name, before in self._before.items():
                after = [np.asarray(one) for one in self._variables[name]]
                changed = health_probe.norm_of(new - old for new, old in zip(after, before))
                size = health_probe.norm_of(np.asarray(one) for one in self._weights[name])
                ratio = changed / max(size, 1e-12) / self.model.steps_per_execution
                self._updates[name] = max(ratio, self._updates.get(name, 0.0))
            self._before = None

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        done, last = (epoch + 1) * self.run.setup.steps_per_epoch, self.run.steps
        if done < last and min(done - self._measured_at, last - done) < MIN_STEPS_BETWEEN:
            return
        self._measured_at = done
        if found := self._measure():
            logs |= _tensorboard_rows(found)

    def _measure(self) -> Measurement | None:
        """Measures the model as it is now. Too little memory ends the measuring, and not the phase."""
        found = _if_memory_allows(self._probe) if self._probe else None
        if found is None:
            self._probe = None
            return None
        health = self.run.state.health
        earlier = health[-1]["blocks"] if health else {}
        for name, row in found["blocks"].items():
            updates = [self._updates.get(name), earlier.get(name, {}).get("update")]
            row["update"] = max((one for one in updates if one is not None), default=None)
        self.run.state.health = [health[0], found] if health else [found]
        return found


def _if_memory_allows(function: Any) -> Any:
    try:
        return function()
    except tf.errors.ResourceExhaustedError:
        return None


def _tensorboard_rows(found: Measurement) -> dict[str, float]:
    """The figures of a measurement, as TensorBoard shows them: one chart a figure and block."""
    scalars = {f"{title}/{name}": row[key] for name, row in found["blocks"].items() for key, title in _TITLES.items()}
    return {name: value for name, value in scalars.items() if value is not None} | {"gradient_norm": found["gradient"]}
