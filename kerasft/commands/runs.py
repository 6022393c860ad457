"""`kerasft runs [DIR]`: the finished runs of a folder side by side."""

from pathlib import Path

from kerasft.console.columns import columns, write
from kerasft.console.wording import duration, number, percent
from kerasft.report import comparison
from kerasft.settings.errors import UserError

ENDINGS = (".html", ".htm")


def run(argument: str, out: str = "") -> None:
    """Prints the table; with `out`, writes the page, too.

    Raises:
        UserError: no such folder, no finished run in it, or a page that cannot be written.
    """
    root = Path(argument or "runs")
    if not root.is_dir():
        raise UserError(f"kerasft runs: must be a folder with run folders in it. Received: '{root}'")
    if out and not out.endswith(ENDINGS):
        raise UserError(f"--out: must end in {' or '.join(ENDINGS)}. Received: {out!r}")
    found, damaged = comparison.find(root)
    if not found and not damaged:
        raise UserError(f"kerasft runs: no finished run is in this folder. Received: '{root}'")
    write(table(found, damaged))
    if out:
        try:
            comparison.write_page(Path(out), found, damaged)
        except OSError as error:
            raise UserError(f"--out: cannot be written: {error.strerror}. Received: {out!r}") from error
        write(f"\nWritten: {out}")


def table(found: list[comparison.FinishedRun], damaged: list[comparison.Unreadable]) -> str:
    """The runs as text, by data and the best first; then the folders that could not be read."""
    rows = []
    for row in found:
        shown = percent if row.score == "accuracy" else number
        span = f"{shown(row.low)} to {shown(row.high)}"
        numbers = (
            row.score,
            shown(row.value),
            span,
            number(row.loss),
            f"{row.n:,}",
            duration(row.seconds).replace("\N{NO-BREAK SPACE}", " "),
        )
        rows.append((row.data, row.network, *numbers, str(row.folder), row.export))
    head = ("data", "network", "score", "test", "95 % interval", "loss", "pictures", "time", "run", "export")
    lines = [columns(head, rows, right=(head[3], *head[5:8]))] if rows else []
    lines += [columns(("not read", "reason"), [(str(row.folder), row.reason) for row in damaged])] if damaged else []
    return "\n\n".join(lines)
