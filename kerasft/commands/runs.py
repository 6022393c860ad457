"""`kerasft runs [DIR]`: compares the finished runs of a folder."""

import os
from pathlib import Path

from kerasft.console.columns import columns, write
from kerasft.console.wording import duration, number, span
from kerasft.evaluation.score_names import formatter
from kerasft.report import runs_page
from kerasft.settings.errors import UserError

# The suffixes that `--out` may have.
PAGE_SUFFIXES = (".html", ".htm")

# What the table calls a score, where that is not its name in `metrics.json`.
NAMES = {"scaled_mae": "mae in deviations"}


def run(argument: str, out: str = "") -> None:
    """Prints the table. With `out`, also writes the page.

    Raises:
        UserError: the folder does not exist or has no finished run, or the page cannot be written.
    """
    # A shell leaves `~` behind `=` as it is.
    root, out = Path(os.path.expanduser(argument or "runs")), os.path.expanduser(out)
    if not root.is_dir():
        raise UserError(f"kerasft runs: must be a folder that has run folders. Received: '{root}'")
    if out and not out.endswith(PAGE_SUFFIXES):
        raise UserError(f"--out: must end in {' or '.join(PAGE_SUFFIXES)}. Received: {out!r}")
    found, damaged = runs_page.find(root)
    if not found and not damaged:
        raise UserError(f"kerasft runs: this folder has no finished run. Received: '{root}'")
    write(table(found, damaged))
    if out:
        try:
            runs_page.write_page(Path(out), found, damaged)
        except OSError as error:
            raise UserError(f"--out: cannot be written: {error.strerror}. Received: {out!r}") from error
        write(f"\nWritten: {out}")


def table(found: list[runs_page.FinishedRun], damaged: list[runs_page.Unreadable]) -> str:
    """Returns the runs as text, by data, the best first. The folders that cannot be read follow."""
    rows = []
    for row in found:
        shown = formatter(row.score)
        interval = span(None if row.low is None else (row.low, row.high), shown)
        numbers = (
            NAMES.get(row.score, runs_page.score_of(row)),
            shown(row.value),
            interval,
            number(row.loss),
            f"{row.n:,}",
            duration(row.seconds).replace("\N{NO-BREAK SPACE}", " "),
        )
        rows.append((row.data, row.network, *numbers, str(row.folder), row.export))
    head = ("data", "network", "score", "test", "95 % interval", "loss", "images", "time", "run", "export")
    lines = [columns(head, rows, right=(head[3], *head[5:8]))] if rows else []
    lines += [columns(("not read", "reason"), [(str(row.folder), row.reason) for row in damaged])] if damaged else []
    return "\n\n".join(lines)
