"""The page of a comparison, `compare.html`, and the cells that it shares with the table of the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasft import __version__
from kerasft.console.wording import NOT_MEASURED, duration, kept_weights, signed, span
from kerasft.evaluation.score_names import ERRORS, TITLES, formatter
from kerasft.report.report_page import environment
from kerasft.storage import run_folder

Row = dict[str, Any]


def write_compare(folder: Path, values: dict[str, Any]) -> None:
    """Writes `compare.html`.

    Args:
        folder: of the comparison, with `run.flags`.
        values: the contents of `compare.json`.
    """
    score, rows = values["score"], [row for row in values["rows"] if row["status"] == "finished"]
    content = {
        "found": values,
        "score_name": score_name(score),
        "loss_name": "Loss" if values["task"] == "regression" else "Log loss",
        "rows": [(row, cells(row, score)) for row in rows],
        "missing": [row for row in values["rows"] if row["status"] != "finished"],
        "n": rows[0]["n"] if rows else 0,
        "compared": sum(row["difference"] is not None and not row["difference"]["same"] for row in rows),
        "bar": lambda row, key: bar(row, key, rows),
        "verdict": lambda row, key: verdict(row[key], less_is_better=key == "loss_difference" or score in ERRORS),
        "version": __version__,
        "flags": (folder / "run.flags").read_text(),
        "folder": folder.as_posix(),
    }
    page = environment().get_template("compare.html.j2").render(content)
    run_folder.write(folder / "compare.html", lambda file: file.write(page.encode("utf-8", "replace")))


def score_name(score: str) -> str:
    """The name of a score in words."""
    return TITLES.get(score, score)


def cells(row: Row, score: str) -> dict[str, str]:
    """The figures of a finished row as texts, by the names of their columns."""
    shown = formatter(score)
    return {
        "strategy": row["strategy"],
        "score": shown(row[score]),
        "interval": span(row["interval"], shown),
        "difference": _difference(row["difference"], shown),
        "loss": _decimals(row["loss"]),
        "loss interval": span(row["loss_interval"], _decimals),
        "loss difference": _difference(row["loss_difference"], _decimals),
        "validation loss": _decimals(row["validation_loss"]),
        "kept": kept(row["phases"]),
        "epochs": str(sum(phase["epochs"] for phase in row["phases"])),
        "trained": f"{row['trained_parameters']:,}",
        "stored": f"{row['stored_bytes'] / 1e6:,.2f} MB",
        "time": duration(row["seconds"]),
        "training": duration(row["train_seconds"]),
        "memory": f"{row['peak_rss_mb']:,.0f} MB",
        "images/s": f"{row['images_per_second']:,.0f}",
    }


def kept(phases: list[Row]) -> str:
    """How much of its trained phases an entry has kept, in their order; `solved` for a head alone."""
    trained = [phase for phase in phases if phase["epochs"]]
    return ", ".join(kept_weights(phase["share"], short=True) for phase in trained) or "solved"


def verdict(difference: Row | None, less_is_better: bool) -> str:
    """`better` or `worse` if the interval of a difference is on one side of 0; else an empty text."""
    if not difference or not difference["interval"]:
        return ""
    low, high = difference["interval"]
    if low <= 0 <= high:
        return ""
    return "better" if (high < 0) == less_is_better else "worse"


def bar(row: Row, key: str, rows: list[Row]) -> dict[str, str]:
    """The CSS positions of an interval, its value and 0 on the axis that all rows share, in percent of the width."""
    ends = [end for other in rows if other[key] and other[key]["interval"] for end in other[key]["interval"]]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    width = (high - low) or 1.0
    left, right = row[key]["interval"]
    places = {"left": left - low, "width": right - left, "point": row[key]["value"] - low, "zero": -low}
    return {name: f"{100 * value / width:.1f}%" for name, value in places.items()}


def _decimals(loss: float) -> str:
    """A loss with as many decimals as its neighbours in the table."""
    return f"{loss:.3f}"


def _difference(found: Row | None, shown: Callable[[float], str]) -> str:
    if found is None:
        return NOT_MEASURED
    if found["same"]:
        return "the same"
    ends = " to ".join(signed(end, shown) for end in found["interval"] or ())
    return signed(found["value"], shown) + (f" ({ends})" if ends else "")
