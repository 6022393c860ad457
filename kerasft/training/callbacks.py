"""What happens between the steps of a fit: states are saved, epochs judged and recorded, divergence is noticed."""

import time
from collections.abc import Callable

import keras
import numpy as np

from kerasft.console import console
from kerasft.optimization import optimizers
from kerasft.training import autotune, train_state
from kerasft.training.weight_interpolation import Weights

UNTIMED_CALLS, TIMED_CALLS = 3, 20  # calls that are not timed (the first compiles), and that are
MAX_SECONDS_BETWEEN_CHECKPOINTS = 60.0  # between two checkpoints at the most, as far as one step allows
MIN_CHECKPOINT_INTERVAL_RATIO = (
    20.0  # times as long as a checkpoint takes has to pass before the next, where epochs are that short
)
SECONDS_BETWEEN_LOSS_READS = 0.2  # between two looks at the running loss: each waits for the device
DIVERGENCE_FACTOR = 20.0  # times the loss of a phase's first batch, or 1 if that is more: training has diverged


class PhaseCallback(keras.callbacks.Callback):
    """Validates after each epoch, keeps the best weights, records the epoch; saves, at least every minute.

    Args:
        trainer: the `trainer.Trainer` whose fit this is.
        name: of the phase.
        first_epoch: epochs of the phases before.
        stopping: says whether a signal has come.

    Attributes:
        diverged: whether the loss stopped to be a number or blew up.
        fed: pictures a second that the stream alone gives, where that was measured.
        running: variables of the metrics where the first epoch goes on in its middle; None where it begins.
        plateau, lr: what lowers the rate when validation stands still, and from where.
    """

    def __init__(self, trainer, name: str, first_epoch: int, stopping: Callable[[], bool]):
        super().__init__()
        self.trainer, self.name, self.first_epoch, self.stopping = trainer, name, first_epoch, stopping
        self.diverged = False
        self.plateau: optimizers.Plateau | None = None
        self.lr = 0.0
        self.fed: float | None = None
        self.running: Weights | None = None
        self.calls, self.began, self.taken = 0, 0.0, []
        self.looked = trainer.saved = time.monotonic()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.calls = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.running:  # Keras has just set them to nothing
            train_state.assign(self.model.metrics_variables, self.running)
            self.running = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        trainer, now = self.trainer, time.monotonic()
        state = trainer.state
        self.calls += 1
        if self.fed and self.calls > UNTIMED_CALLS:
            self._measure(logs)
        if self.calls % state.micro_batches:  # only a part of a step
            return
        state.step += self.model.steps_per_execution
        if state.first_loss is None:
            state.first_loss = float(logs["loss"])
        saving = (
            now - trainer.saved > MAX_SECONDS_BETWEEN_CHECKPOINTS or self.stopping()
        ) and state.step < trainer.steps
        if saving or now - self.looked > SECONDS_BETWEEN_LOSS_READS:
            self.looked = now
            self._check_divergence(logs)
        if saving and not self.diverged:
            trainer.save_within()
        if self.stopping() and state.step < trainer.steps:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        trainer = self.trainer
        state = trainer.state
        self._check_divergence(logs)
        if self.diverged:
            return
        score, better = trainer.score_epoch()
        logs |= {"val_loss": score[0], f"val_{trainer.score}": score[1]}
        state.epoch, state.step = epoch + 1, 0
        row = {"phase": self.name, "epoch": epoch + 1, "step": (self.first_epoch + epoch + 1) * trainer.steps}
        row |= {"loss": float(logs["loss"]), "val_loss": score[0], f"val_{trainer.score}": score[1]}
        row |= {"lr": float(self.model.optimizer.learning_rate)}
        trainer.history.add({**row, "seconds": round(time.monotonic() - trainer.started, 3)})
        state.history = trainer.history.lines
        mark = ", the best so far" if better else ""
        console.say(
            f"  {self.name} epoch {epoch + 1}: loss {logs['loss']:.4f}, "
            f"validation loss {score[0]:.4f}, {trainer.named} {console.figure(score[1])}{mark}"
        )
        if self.plateau:
            self.model.optimizer.learning_rate = self.plateau.rate(self.lr, state.losses)
        waited = time.monotonic() - trainer.saved
        if self.stopping() or waited > min(
            MAX_SECONDS_BETWEEN_CHECKPOINTS, MIN_CHECKPOINT_INTERVAL_RATIO * trainer.saving
        ):
            trainer.save_within()
        if trainer.out_of_patience():
            console.say(
                f"  {self.name}: no better for {trainer.config.patience} epochs: the phase ends here (--patience)"
            )
            self.model.stop_training = True
        if self.stopping():
            raise KeyboardInterrupt

    def _measure(self, logs: dict) -> None:
        """Times a call; after `TIMED_CALLS` of them says what the training waits for, once a phase."""
        float(logs["loss"])  # waits for the device
        self.taken.append(time.monotonic() - self.began)
        if len(self.taken) == TIMED_CALLS:
            pictures = self.trainer.batch / self.trainer.state.micro_batches * self.model.steps_per_execution
            trained = pictures / float(np.median(self.taken))
            console.say(f"  {self.name}: {verdict(trained, self.fed, on_accelerator=autotune.on_accelerator())}")
            self.fed = None

    def _check_divergence(self, logs: dict) -> None:
        """Notices a loss that is no number, or far above where the phase began."""
        loss, first = float(logs["loss"]), self.trainer.state.first_loss
        if not np.isfinite(loss) or loss > DIVERGENCE_FACTOR * max(1.0, first or 0.0):
            self.diverged = self.model.stop_training = True


def verdict(trained: float, fed: float, *, on_accelerator: bool) -> str:
    """What training waits for, in words.

    Args:
        trained: pictures a second, all in all.
        fed: pictures a second that the stream gives alone.
        on_accelerator: whether the network computes elsewhere (a GPU), or on the cores that also feed it.
    """
    share = min(trained / fed, 1.0)
    if on_accelerator:
        bound, possible = share > 0.8, f"no more than {fed:,.0f} can be fed"
    else:  # the cores' time is that of feeding and that of computing
        bound, possible = share > 0.5, f"{trained / max(1 - share, 0.01):,.0f} possible if feeding cost nothing"
    if bound:
        tips = "fewer or cheaper --augment operations, pictures stored smaller, or a cached phase (views=)"
        return f"input-bound: {trained:,.0f} pictures/s trained, {possible}; try {tips}"
    return f"compute-bound: {trained:,.0f} pictures/s trained, {fed:,.0f} could be fed"
