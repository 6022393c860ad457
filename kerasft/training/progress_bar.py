"""The progress bar of a fit."""

import time

import keras

from kerasft.console import console

# Seconds between two updates: reading the loss waits for the device.
SECONDS_BETWEEN_UPDATES = 0.2


class ProgressBar(keras.callbacks.Callback):
    """A progress bar over the steps of a `fit`, with the running loss."""

    def __init__(self, title: str, steps: int, done: int):
        super().__init__()
        self.title, self.steps, self.done = title, steps, done
        self.bars, self.task = console.progress_bars(), None
        self.shown = time.monotonic()

    def on_train_begin(self, logs=None) -> None:
        if self.task is None:
            self.bars.start()
            self.task = self.bars.add_task(self.title, total=self.steps, completed=self.done)

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.done += self.model.steps_per_execution
        if time.monotonic() - self.shown > SECONDS_BETWEEN_UPDATES:
            self.shown = time.monotonic()
            self.bars.update(self.task, completed=self.done, description=f"{self.title}  loss {logs['loss']:.4f}")

    def stop(self) -> None:
        """Takes the bar off the screen and gives the cursor back, also after an interruption."""
        self.bars.stop()
