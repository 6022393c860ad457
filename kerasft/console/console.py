"""What a run prints: lines, tables and progress bars."""

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
        """Raises the error, so that the command reports it. Rich would end the process."""
        raise


_console = _Console(highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Prints a line. Square brackets are no markup, and control characters are escaped."""
    _console.print(printable(text), markup=False)


def format_metric(value: float | None) -> str:
    """Formats a metric with four decimals. A small one gets four significant digits, a large one a single decimal."""
    if value is None:
        return "unknown"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4g}" if 0 < abs(value) < 0.1 else f"{value:.4f}"


@contextmanager
def silence() -> Iterator[None]:
    """Prints nothing while the block runs."""
    before, _console.quiet = _console.quiet, True
    try:
        yield
    finally:
        _console.quiet = before


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on a terminal, else prints a line every minute. Yields a function that advances it by a count."""
    with progress_bars() as bars:
        task, started = bars.add_task(title, total=total), time.monotonic()
        done, last_line = 0, started

        def advance(count: int) -> None:
            nonlocal done, last_line
            done, now = done + count, time.monotonic()
            rate = done / max(now - started, 1e-3)
            bars.update(task, advance=count, description=f"{title}  {rate:,.0f}/s")
            if not _console.is_terminal and now - last_line > SECONDS_BETWEEN_LINES:
                last_line = now
                say(f"{title}: {done:,} of {total:,}, {rate:,.0f} a second")

        yield advance


def progress_bars() -> Progress:
    """Returns progress bars that disappear when they are done. Without a terminal they print nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal)


def print_table(table: Table) -> None:
    """Prints a table."""
    _console.print(table)
