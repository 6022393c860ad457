"""What the user sees while a run goes on: lines, tables and progress bars."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from kerasft.settings.errors import printable

# Seconds between two lines of progress where there is no terminal.
SECONDS_BETWEEN_LINES = 60.0


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
    with progress_bars() as bars:
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


def progress_bars() -> Progress:
    """Progress bars that leave nothing behind; silent where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal)


def show(table: Table) -> None:
    """Prints a table."""
    _console.print(table)
