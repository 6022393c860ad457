"""What happens between the steps of a fit: checkpoints, scores of epochs, divergence."""

import time
from collections.abc import Callable

import keras
import numpy as np

from kerasft.console import console
from kerasft.optimization.schedules import Plateau
from kerasft.training import autotune
from kerasft.training.checkpointer import assign
from kerasft.training.phase_run import PhaseRun
from kerasft.training.weight_interpolation import Weights

# Calls that are not timed (the first compiles), and calls that are.
UNTIMED_CALLS = 3
TIMED_CALLS = 20

# Seconds between two reads of the running loss: each waits for the device.
SECONDS_BETWEEN_LOSS_READS = 0.2

# Training has diverged once the loss is this many times that of the first batch, or this much if that is more.
DIVERGENCE_FACTOR = 20.0


class PhaseCallback(keras.callbacks.Callback):
    """Scores each epoch, keeps the best weights, writes the history; saves checkpoints; notices divergence.

    Args:
        run: the phase that is fitted.
        stop_requested: whether a signal has come.
        metrics_state: variables of the metrics, where the first epoch is resumed in its middle.

    Attributes:
        diverged: whether the loss was not finite or blew up.
        times_input: whether the speed of the input stream is still to be measured.
        input_speed: images a second of the input stream alone, where it was measured.
        plateau, lr: what lowers the rate when validation stands still, and the rate it began with.
    """

    def __init__(self, run: PhaseRun, stop_requested: Callable[[], bool], metrics_state: Weights | None = None):
        super().__init__()
        self.run, self.stop_requested, self.metrics_state = run, stop_requested, metrics_state
        self.diverged = False
        self.plateau: Plateau | None = None
        self.lr = 0.0
        self.times_input = False
        self.input_speed: float | None = None
        self._calls, self._call_started, self._call_seconds = 0, 0.0, []
        self._read_at = time.monotonic()
        run.checkpointer.restart_clock()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._calls = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Keras has just reset them.
        if self.metrics_state:
            assign(self.model.metrics_variables, self.metrics_state)
            self.metrics_state = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._call_started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        run, state = self.run, self.run.state
        self._calls += 1
        if self.input_speed and self._calls > UNTIMED_CALLS:
            self._time_call(logs)
        # The end of a micro-batch is not the end of a step.
        if self._calls % state.micro_batches:
            return
        state.step += self.model.steps_per_execution
        if state.first_loss is None:
            state.first_loss = float(logs["loss"])
        within_epoch = state.step < run.setup.steps_per_epoch
        saving = within_epoch and (run.checkpointer.due_within_epoch() or self.stop_requested())
        if saving or time.monotonic() - self._read_at > SECONDS_BETWEEN_LOSS_READS:
            self._read_at = time.monotonic()
            self._check_divergence(logs)
        if saving and not self.diverged:
            run.save()
        if self.stop_requested() and within_epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        run, state = self.run, self.run.state
        self._check_divergence(logs)
        if self.diverged:
            return
        per_epoch = run.setup.steps_per_epoch
        loss = float(logs["loss"])
        row = {"phase": run.name, "epoch": epoch + 1, "step": (run.first_epoch + epoch + 1) * per_epoch, "loss": loss}
        said = f"loss {loss:.4f}"
        if run.is_scored(epoch + 1):
            score, better = run.score_epoch()
            scores = {"val_loss": score[0], f"val_{run.setup.scorer.name}": score[1]}
            logs |= scores
            row |= scores
            said += f", validation loss {score[0]:.4f}, {run.setup.scorer.title} {console.format_metric(score[1])}"
            said += ", the lowest loss so far" if better and run.may_keep_best else ""
        state.epoch, state.step = epoch + 1, 0
        row |= {"lr": float(self.model.optimizer.learning_rate)}
        run.history.add({**row, "seconds": round(time.monotonic() - run.started, 3)})
        state.history_rows = run.history.rows
        console.say(f"  {run.name} epoch {epoch + 1}: {said}")
        if self.plateau:
            self.model.optimizer.learning_rate = self.plateau.rate(self.lr, state.losses)
        run.check_losing()
        if self.stop_requested() or run.checkpointer.due_after_epoch():
            run.save()
        if state.is_losing:
            console.say(
                f"  {run.name}: worse than the weights before it, at a third of its epochs: the phase ends here"
            )
            self.model.stop_training = True
        if run.out_of_patience():
            patience = run.setup.config.patience
            console.say(f"  {run.name}: no better for {patience} epochs: the phase ends here (--patience)")
            self.model.stop_training = True
        if self.stop_requested():
            raise KeyboardInterrupt

    def _time_call(self, logs: dict) -> None:
        """Times a call; after enough of them says once what training waits for."""
        # Reading the loss waits for the device.
        float(logs["loss"])
        self._call_seconds.append(time.monotonic() - self._call_started)
        if len(self._call_seconds) == TIMED_CALLS:
            images = self.run.setup.batch_size / self.run.state.micro_batches * self.model.steps_per_execution
            trained = images / float(np.median(self._call_seconds))
            bound = bottleneck(trained, self.input_speed, on_accelerator=autotune.on_accelerator())
            console.say(f"  {self.run.name}: {bound}")
            self.input_speed = None

    def _check_divergence(self, logs: dict) -> None:
        loss, first = float(logs["loss"]), self.run.state.first_loss
        if not np.isfinite(loss) or loss > DIVERGENCE_FACTOR * max(1.0, first or 0.0):
            self.diverged = self.model.stop_training = True


def bottleneck(trained: float, fed: float, *, on_accelerator: bool) -> str:
    """What training waits for, in words.

    Args:
        trained: images a second, all in all.
        fed: images a second that the input stream gives alone.
        on_accelerator: whether the network computes on a device of its own, or on the cores that also feed it.
    """
    fraction = min(trained / fed, 1.0)
    if on_accelerator:
        input_bound, possible = fraction > 0.8, f"no more than {fed:,.0f} can be fed"
    else:
        # The cores' time is that of feeding and that of computing.
        possible = f"{trained / max(1 - fraction, 0.01):,.0f} possible if feeding cost nothing"
        input_bound = fraction > 0.5
    if input_bound:
        tips = "fewer or cheaper --augment operations, smaller image files, or a cached phase (views=)"
        return f"input-bound: {trained:,.0f} images/s trained, {possible}; try {tips}"
    return f"compute-bound: {trained:,.0f} images/s trained, {fed:,.0f} could be fed"
