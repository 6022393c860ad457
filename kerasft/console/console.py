"""What the user sees while a run goes on: lines, tables and progress bars."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kerasft.data.listing import Finding
from kerasft.settings.errors import printable
from kerasft.strategies.phases import Phase

NAMES = {"accuracy": "accuracy", "map": "mean average precision", "mae": "mean absolute error"}  # of scores
SECONDS_BETWEEN_LINES = 60.0  # seconds between two lines where there is no terminal

# What is left of a phase, by the share of its weights.
KEPT = {1.0: "its weights kept", 0.75: "three-quarter-way weights kept", 0.5: "half-way weights kept"}
KEPT |= {0.25: "quarter-way weights kept", 0.0: "undone, for it was not measurably better"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Lets the command say it; Rich would end the process."""
        raise


_console = _Console(highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Prints a line; square brackets stay as they are, and what a terminal would obey is escaped."""
    _console.print(printable(text), markup=False)


def figure(value: float | None) -> str:
    """A figure with four decimals; a small one with four digits that are not 0, a large one with one decimal."""
    if value is None:
        return "unknown"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4g}" if 0 < abs(value) < 0.1 else f"{value:.4f}"


def name_of(score: str, outputs: int) -> str:
    """What a task's headline score is called; the error of several targets is in their deviations."""
    return NAMES[score] + (" in deviations" if score == "mae" and outputs > 1 else "")


def verdict(share: float, before: tuple[float, float], after: tuple[float, float], name: str) -> str:
    """What is left of a phase, in one sentence.

    Args:
        share: of its weights.
        before, after: loss and score on validation, as they were compared.
        name: of the score.
    """
    losses = f"validation loss {figure(before[0])} -> {figure(after[0])}"
    return f"{KEPT[share]}: {losses}, {name} {figure(before[1])} -> {figure(after[1])}"


@contextmanager
def silence() -> Iterator[None]:
    """Keeps everything off the screen while the block runs."""
    before, _console.quiet = _console.quiet, True
    try:
        yield
    finally:
        _console.quiet = before


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with the rate on a terminal, a line every minute elsewhere; gives what advances it by a count."""
    with _bars() as bars:
        task, began = bars.add_task(title, total=total), time.monotonic()
        done, said = 0, began

        def advance(count: int) -> None:
            nonlocal done, said
            done, now = done + count, time.monotonic()
            rate = done / max(now - began, 1e-3)
            bars.update(task, advance=count, description=f"{title}  {rate:,.0f}/s")
            if not _console.is_terminal and now - said > SECONDS_BETWEEN_LINES:
                said = now
                say(f"{title}: {done:,} of {total:,}, {rate:,.0f} a second")

        yield advance


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal)


class Bar(keras.callbacks.Callback):
    """A progress bar over the steps of a `fit`, with the running loss."""

    def __init__(self, title: str, steps: int, done: int):
        super().__init__()
        self.title, self.steps, self.done = title, steps, done
        self.bars, self.task = _bars(), None
        self.shown = time.monotonic()

    def on_train_begin(self, logs=None) -> None:
        if self.task is None:
            self.bars.start()
            self.task = self.bars.add_task(self.title, total=self.steps, completed=self.done)

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.done += self.model.steps_per_execution
        if time.monotonic() - self.shown > 0.2:  # the loss is read from the device no more often than that
            self.shown = time.monotonic()
            self.bars.update(self.task, completed=self.done, description=f"{self.title}  loss {logs['loss']:.4f}")

    def stop(self) -> None:
        """Takes the bar off the screen and gives the cursor back, also after an interruption."""
        self.bars.stop()


def show_phases(rows: list[tuple[Phase, int, int]]) -> None:
    """The table of phases with trainable and frozen parameters."""
    table = Table(title="Phases", title_justify="left")
    for name, side in (("phase", "left"), ("trainable", "right"), ("frozen", "right"), ("augmentation", "left")):
        table.add_column(name, justify=side)
    for phase, trainable, frozen in rows:
        recipe = " | ".join(map(str, phase.augment)) or "none"
        # The table is for a narrow screen; settled.json and the records name the rest.
        short = replace(phase, optimizer=None, schedule=None, loss=None, augment=None, conditional=False)
        name = f"{short}, if it pays" if phase.conditional else str(short)
        cells = (name, f"{trainable:,}", f"{frozen:,}", recipe if phase.epochs else "")
        table.add_row(*(Text(printable(cell)) for cell in cells))  # a Text, for brackets are no markup here
    _console.print(table)


def show_findings(findings: tuple[Finding, ...], most: int = 20) -> None:
    """Names the files that are left out, then those that look wrong."""
    for verdict, title in (("reject", "left out"), ("warn", "to look at")):
        chosen = [finding for finding in findings if finding.verdict == verdict]
        for finding in chosen[:most]:
            say(f"  {title}: {finding.path}: {finding.kind.replace('_', ' ')}: {finding.detail}")
        if len(chosen) > most:
            say(f"  ... and {len(chosen) - most} more {title}: see audit.json")
