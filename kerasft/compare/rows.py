"""The rows of `compare.json`: what each entry measured, and its paired difference to the first one."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.compare.entries import Entry
from kerasft.evaluation import paired
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.score_names import score_key
from kerasft.storage import predictions_file

Row = dict[str, Any]

# The value of `status` in a row.
FINISHED, FAILED, NOT_BEGUN = "finished", "failed", "not begun"


def finished(entry: Entry, result: dict[str, Any], task: str, classes: list[str], folder: Path) -> Row:
    """The row of an entry that was trained and scored, still without its difference.

    Args:
        result: the `Scored` of the entry as JSON, with `peak_rss_mb`.
        folder: its run folder.
    """
    test, phases, seconds = result["figures"]["test"], result["phases"], result["seconds"]
    arrays = predictions_file.read(folder)
    quantile = asked_quantile(test)
    _, low, high = score_interval(task, test, arrays, classes, quantile)
    key = score_key(task, len(classes), quantile)
    return {
        **_head(entry, FINISHED),
        key: test[key],
        "interval": _ends(low, high),
        "loss": test["loss"],
        "loss_interval": _ends(*paired.loss_interval(arrays)),
        "difference": None,
        "loss_difference": None,
        "n": test["n"],
        "validation_loss": result["figures"]["val"]["loss"],
        "seconds": seconds["total"],
        "train_seconds": round(sum(phase["seconds"] for phase in phases), 3),
        "peak_rss_mb": result["peak_rss_mb"],
        "parameters": result["parameters"],
        "trained_parameters": max(phase["trainable"] for phase in phases),
        "stored_bytes": result["stored_bytes"],
        "images_per_second": round(result["images_per_second"], 1),
        "phases": [{name: phase[name] for name in ("name", "spec", "epochs", "share")} for phase in phases],
        "run_dir": folder.as_posix(),
    }


def failed(entry: Entry, reason: str) -> Row:
    """The row of an entry that ended without a result."""
    return {**_head(entry, FAILED), "reason": reason}


def not_begun(entry: Entry, reason: str) -> Row:
    """The row of an entry that was not begun."""
    return {**_head(entry, NOT_BEGUN), "reason": reason}


def add_differences(rows: Sequence[Row], task: str, units: np.ndarray | None, quantile: float | None = None) -> None:
    """Adds to each finished row its paired differences to the first row, if that is finished.

    `difference` is of the score, `loss_difference` of the loss, each as `{"value", "interval", "n", "same"}`.
    `same` is true if both networks give the same numbers, for example because a phase was undone.

    Args:
        units: float [D], the deviations of several targets, which their errors are divided by; else None.
        quantile: of `asked_quantile`, the same for all rows.
    """
    if not rows or rows[0]["status"] != FINISHED:
        return
    first = predictions_file.read(Path(rows[0]["run_dir"]))
    for row in rows[1:]:
        if row["status"] == FINISHED:
            found = paired.compare(task, first, predictions_file.read(Path(row["run_dir"])), units, quantile)
            row["difference"] = _difference(found.score, found)
            row["loss_difference"] = _difference(found.loss, found)


def deviations(result: dict[str, Any], targets: list[str]) -> np.ndarray | None:
    """The deviations of several targets on the training images, float64 [D]; None for a single one or for classes."""
    found = result["figures"]["test"].get("per_target", {})
    return np.array([found[name]["deviation"] or 1.0 for name in targets]) if len(found) > 1 else None


def winner(rows: Sequence[Row]) -> Row | None:
    """The finished row of the lowest validation loss; of equal ones the first. The test images take no part in it."""
    losses = [row for row in rows if row["status"] == FINISHED and math.isfinite(row["validation_loss"])]
    return min(losses, key=lambda row: row["validation_loss"], default=None)


def _head(entry: Entry, status: str) -> Row:
    return {"strategy": entry.name, "settings": entry.text, "status": status}


def _difference(found: paired.Difference, both: paired.Paired) -> dict[str, Any]:
    return {"value": found.value, "interval": _ends(found.low, found.high), "n": both.n, "same": both.same}


def _ends(low: float | None, high: float | None) -> list[float] | None:
    """An interval; None where the images cannot tell it."""
    return None if low is None or not math.isfinite(low) else [low, high]
