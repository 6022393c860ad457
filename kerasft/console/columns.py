"""Plain-text tables with aligned columns, and printing into a pipe that its reader may close early."""

import errno
from collections.abc import Sequence

from kerasft.settings import failures
from kerasft.settings.errors import UserError, printable


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Returns a table as text: one line for each row, without borders, so that `grep` and `sort` work on it.

    Args:
        head: titles of the columns.
        rows: cells, one for each title.
        right: titles of the columns that are aligned to the right.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    sides = ["rjust" if title in right else "ljust" for title in head]
    return "\n".join(
        "  ".join(getattr(cell, side)(width) for cell, side, width in zip(line, sides, widths)).rstrip()
        for line in lines
    )


def write(text: str) -> None:
    """Prints a text to standard output. A reader that closes the pipe early (`| head`) is no error.

    Raises:
        UserError: standard output cannot be written, for example because its disk is full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        failures.discard_output()
        if error.errno != errno.EPIPE:
            raise UserError(f"standard output: cannot be written. Received: {error.strerror!r}") from None
