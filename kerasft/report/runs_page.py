"""The comparison of finished runs: the test score of each with its interval, and its time; as rows and as a page."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kerasft import __version__
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.score_names import ERRORS, TITLES, score_key
from kerasft.report.report_page import environment
from kerasft.settings.errors import UserError
from kerasft.storage import predictions_file, run_folder


class FinishedRun(NamedTuple):
    """One row.

    Attributes:
        folder: the run folder.
        data: short name of the data.
        network: the backbone, as `--backbone` names it.
        size: side of its input images in pixels.
        score: `accuracy`, `map` or `mae`; `scaled_mae` for several targets, `pinball` for a quantile.
        value, low, high: the score on the test split, and its 95 % interval; None where the images cannot tell it.
        loss: log loss on the test split (single and multi-label); the training loss (regression).
        n: test images.
        seconds: of the whole run.
        export: path of the SavedModel.
        quantile: that is predicted; None for the mean or the median.
    """

    folder: Path
    data: str
    network: str
    size: int
    score: str
    value: float
    low: float | None
    high: float | None
    loss: float
    n: int
    seconds: float
    export: str
    quantile: float | None = None


class Unreadable(NamedTuple):
    """A run folder with missing or damaged files, and the reason."""

    folder: Path
    reason: str


def _reason(error: Exception) -> str:
    """Returns what is wrong with a run folder, and in which file if the error says so."""
    if isinstance(error, OSError) and error.filename:
        return f"{Path(error.filename).name}: {error.strerror}"
    if isinstance(error, UserError):
        return str(error).partition("; the command")[0]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def find(root: Path) -> tuple[list[FinishedRun], list[Unreadable]]:
    """Returns the finished runs in a folder and its subfolders, by data, the best first; and those that cannot be read."""
    found, damaged = [], []
    for folder in _folders(root):
        try:
            found.append(read(folder))
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            damaged.append(Unreadable(folder, _reason(error)))
    return sorted(found, key=_sort_key), damaged


def read(folder: Path) -> FinishedRun:
    """Reads the row of one finished run folder.

    Raises:
        OSError, ValueError, KeyError, TypeError, UserError: a file is missing or damaged.
    """
    metrics = json.loads((folder / "metrics.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    arrays = predictions_file.read(folder)
    task, test, export = metrics["task"], metrics["test"], metrics["export"]["path"]
    quantile = asked_quantile(test)
    interval = score_interval(task, test, arrays, metrics["classes"], quantile)
    if interval.value is None:
        raise ValueError("no test image has any of the labels, so there is no score")
    score = score_key(task, len(metrics["classes"]), quantile)
    # Early versions recorded the errors of several targets in their units alone; and no image may have any of several labels.
    value = test.get(score)
    return FinishedRun(
        folder=folder,
        data=Path(export).parent.name,
        network=metrics.get("settled", {}).get("backbone", config["backbone"]),
        size=metrics["image_size"],
        score=score,
        value=float(interval.value if value is None else value),
        low=interval.low,
        high=interval.high,
        loss=float(test["loss"]),
        n=test["n"],
        seconds=float(metrics["seconds"]["total"]),
        export=export,
        quantile=quantile,
    )


def groups(rows: list[FinishedRun]) -> list[tuple[tuple[str, str, int], list[FinishedRun]]]:
    """Groups rows by data, score and number of test images. Only rows of one group can be compared.

    A predicted quantile is part of the score: `pinball(0.9)`.
    """
    return [(key, list(group)) for key, group in groupby(rows, key=lambda row: (row.data, score_of(row), row.n))]


def score_of(row: FinishedRun) -> str:
    """The score of a row, with the quantile that is predicted."""
    return row.score if row.quantile is None else f"{row.score}({row.quantile:g})"


def write_page(path: Path, rows: list[FinishedRun], damaged: list[Unreadable]) -> None:
    """Writes the comparison as one self-contained page.

    Raises:
        OSError: the file cannot be written.
    """
    template = environment().get_template("runs.html.j2")
    content = {
        "groups": groups(rows),
        "damaged": damaged,
        "score_names": TITLES,
        "errors": ERRORS,
        "version": __version__,
        "interval_style": _interval_style,
    }
    page = template.render(content)
    run_folder.write(path, lambda file: file.write(page.encode("utf-8", "replace")))


def _folders(root: Path) -> Iterator[Path]:
    """Yields folders with a `metrics.json`: the root, its subfolders, and theirs (`best/` of a search, `entries/` of a comparison)."""
    for pattern in ("metrics.json", "*/metrics.json", "*/*/metrics.json", "*/entries/*/metrics.json"):
        yield from (path.parent for path in sorted(root.glob(pattern)) if path.is_file())


def _sort_key(row: FinishedRun) -> tuple:
    better = row.value if row.score in ERRORS else -row.value
    return row.data, score_of(row), row.n, better, row.loss, row.folder


def _interval_style(row: FinishedRun, group: list[FinishedRun]) -> dict[str, str]:
    """Returns the CSS positions of a row's interval and score on the common axis of its group, in percent of the width."""
    ends = [end for other in group for end in (other.low, other.high, other.value) if end is not None]
    low, high = min(ends), max(ends)
    width = (high - low) or 1.0
    own = (row.value, row.value) if row.low is None else (row.low, row.high)
    places = {"left": own[0] - low, "width": own[1] - own[0], "point": row.value - low}
    return {name: f"{100 * value / width:.1f}%" for name, value in places.items()}
