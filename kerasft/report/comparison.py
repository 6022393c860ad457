"""Finished runs side by side: what each reached, how sure that is, and what it took; as rows and as a page."""

import json
import zipfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasft import __version__
from kerasft.report import headline
from kerasft.report.page import environment
from kerasft.report.sections import SCORES
from kerasft.storage import run_folder

_HEADLINES = {
    "single_label": headline.single_label,
    "multi_label": headline.multi_label,
    "regression": headline.regression,
}
NAMES = {"accuracy": "accuracy", "map": "mean average precision", "mae": "mean absolute error"}


class FinishedRun(NamedTuple):
    """One row.

    Attributes:
        folder: the run folder.
        data: short name of the data.
        network: the backbone as it was asked for.
        size: side of its pictures in pixels.
        score: `accuracy`, `map` or `mae`.
        value, low, high: the score on the test split, and its 95 % interval.
        loss: log loss on the test split (single and multi-label); the training loss (regression).
        n: test pictures.
        seconds: from start to export.
        export: where the SavedModel is.
    """

    folder: Path
    data: str
    network: str
    size: int
    score: str
    value: float
    low: float
    high: float
    loss: float
    n: int
    seconds: float
    export: str


class Unreadable(NamedTuple):
    """A run folder whose files are missing or damaged, and the reason."""

    folder: Path
    reason: str


def _reason(error: Exception) -> str:
    """What is wrong with a run folder, with the name of the file where the error has it."""
    if isinstance(error, OSError) and error.filename:
        return f"{Path(error.filename).name}: {error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def find(root: Path) -> tuple[list[FinishedRun], list[Unreadable]]:
    """The finished runs in a folder and below it, by data, the best first; and those that cannot be read."""
    found, damaged = [], []
    for folder in _folders(root):
        try:
            found.append(read(folder))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            damaged.append(Unreadable(folder, _reason(error)))
    return sorted(found, key=_order), damaged


def read(folder: Path) -> FinishedRun:
    """The row of one finished run folder.

    Raises:
        OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error: a file is missing or damaged.
    """
    metrics = json.loads((folder / "metrics.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    # NumPy does not close a file that it opened and then finds to be no archive.
    with (folder / "predictions.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    task, test, export = metrics["task"], metrics["test"], metrics["export"]["path"]
    found = _HEADLINES[task](test, arrays, metrics["classes"], headline.Caveats())
    return FinishedRun(
        folder=folder,
        data=Path(export).parent.name,
        network=config["backbone"],
        size=metrics["image_size"],
        score=SCORES[task],
        value=float(test[SCORES[task]]),
        low=found["low"],
        high=found["high"],
        loss=float(test["loss"]),
        n=test["n"],
        seconds=float(metrics["seconds"]["total"]),
        export=export,
    )


def groups(rows: list[FinishedRun]) -> list[tuple[tuple[str, str, int], list[FinishedRun]]]:
    """Rows by data, score and number of test pictures: only those of one group were measured on the same thing."""
    return [(key, list(group)) for key, group in groupby(rows, key=lambda row: (row.data, row.score, row.n))]


def write_page(path: Path, rows: list[FinishedRun], damaged: list[Unreadable]) -> None:
    """Writes the comparison as one self-contained page.

    Raises:
        OSError: the file cannot be written.
    """
    template = environment().get_template("runs.html.j2")
    content = {"groups": groups(rows), "damaged": damaged, "names": NAMES, "version": __version__, "place": _place}
    page = template.render(content)
    run_folder.write(path, lambda file: file.write(page.encode("utf-8", "replace")))


def _folders(root: Path) -> Iterator[Path]:
    """Folders with a `metrics.json`: the root itself, those in it, and those in these (`best/` of a search)."""
    for pattern in ("metrics.json", "*/metrics.json", "*/*/metrics.json"):
        yield from (path.parent for path in sorted(root.glob(pattern)) if path.is_file())


def _order(row: FinishedRun) -> tuple:
    better = row.value if row.score == "mae" else -row.value
    return row.data, row.score, row.n, better, row.loss, row.folder


def _place(row: FinishedRun, group: list[FinishedRun]) -> dict[str, str]:
    """Where interval and score are on the common axis of a group, in percent of its width, for a style sheet."""
    low, high = min(other.low for other in group), max(other.high for other in group)
    width = (high - low) or 1.0
    places = {"left": row.low - low, "width": row.high - row.low, "point": row.value - low}
    return {name: f"{100 * value / width:.1f}%" for name, value in places.items()}
