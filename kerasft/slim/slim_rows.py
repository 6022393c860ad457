"""What slimming has measured: a row for the run and one for each step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from kerasft.compare import rows
from kerasft.compare.rows import FINISHED
from kerasft.console import console
from kerasft.console.wording import signed, span
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.score_names import TITLES, formatter, score_key
from kerasft.storage import predictions_file

Row = dict[str, Any]


def row(name: str, change: str, folder: Path, metrics: Row) -> Row:
    """The row of a finished run, still without its difference to the first.

    Args:
        name: of the row.
        change: that made it of the row before, or its size of images, such as `image_size(160)`; empty for the first.
        folder: of the run.
        metrics: its `metrics.json`.
    """
    task, test, cost = metrics["task"], metrics["test"], metrics["cost"]
    quantile = asked_quantile(test)
    score = score_key(task, len(metrics["classes"]), quantile)
    _, low, high = score_interval(task, test, predictions_file.read(folder), metrics["classes"], quantile)
    return {
        "name": name,
        "surgery": change,
        "image_size": metrics["image_size"],
        "status": FINISHED,
        "run_dir": folder.as_posix(),
        "path": metrics["export"].get("path", ""),
        score: test[score],
        "interval": None if low is None else [low, high],
        "loss": test["loss"],
        "n": test["n"],
        "validation_loss": metrics["val"]["loss"],
        "difference": None,
        "loss_difference": None,
        "multiplications": cost["macs"],
        "parameters": cost["parameters"],
        "bytes": cost["bytes"],
        "images_per_second": cost["images_per_second"],
        "seconds": metrics["seconds"]["total"],
    }


def add_differences(found: list[Row], metrics: Row) -> None:
    """Adds to each row its paired differences to the first, as in `compare.json`, and its shares of the first.

    Args:
        metrics: the `metrics.json` of the first.
    """
    units = rows.deviations({"figures": metrics}, metrics["classes"])
    rows.add_differences(found, metrics["task"], units, asked_quantile(metrics["test"]))
    for one in found:
        one["shares"] = {name: one[name] / found[0][name] for name in ("multiplications", "parameters", "bytes")}


def table(found: list[Row], score: str) -> Table:
    """The rows for the terminal. An interval stands below its figure, so that the table fits a narrow screen.

    The size of the images stands below the name where it is not the run's.

    Args:
        score: a key of the rows.
    """
    shown = formatter(score)
    made = Table(title="Slimming, on the test images, with paired differences to the run", title_justify="left")
    for head in ("", TITLES[score], "difference", "loss", "mult.", "param.", "kB"):
        made.add_column(head, justify="right" if head else "left", overflow="fold")
    for one in found:
        size = "" if one["image_size"] == found[0]["image_size"] else f"\n{one['image_size']} pixels"
        cells = [
            one["name"] + size,
            shown(one[score]) + _in_brackets(one["interval"], shown),
            _difference(one["difference"], shown),
        ]
        cells.append(console.format_metric(one["loss"]))
        cells += [f"{_millions(one[key])}\n({one['shares'][key]:.0%})" for key in ("multiplications", "parameters")]
        made.add_row(*cells, f"{one['bytes'] / 1000:,.0f}")
    return made


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M"


def _difference(found: Row | None, shown: Callable[[float], str]) -> str:
    if not found:
        return ""
    return signed(found["value"], shown) + _in_brackets(found["interval"], lambda end: signed(end, shown))


def _in_brackets(interval: list[float] | None, shown: Callable[[float], str]) -> str:
    return f"\n({span(interval, shown)})" if interval else ""
