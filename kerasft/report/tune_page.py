"""The page of a search, `tune.html`: the trials, the importance of the settings, and the winner."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from kerasft import __version__
from kerasft.console.wording import number, percent
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import TITLES
from kerasft.evidence.figures import WIDTH, tag
from kerasft.report.importance import Axis, importance
from kerasft.report.report_page import environment
from kerasft.storage import run_folder

# Height of one axis of the parallel coordinates, and the margin at both of its ends.
ROW_HEIGHT = 64
MARGIN = 14
# Fewer trials than these are shown as a table only.
MIN_TRIALS_FOR_FIGURES = 2


def write_search(folder: Path) -> None:
    """Writes `tune.html` from `tune.json`, and from the `metrics.json` of the winner if it is trained already."""
    results = run_folder.read_json(folder / "tune.json")
    trials = results["trials"]
    completed = rank_trials(trials, results["direction"])
    scores = np.array([row["score"] for row in completed])
    axes = _axes(completed)
    enough = len(completed) >= MIN_TRIALS_FOR_FIGURES and axes
    ranking, method = importance(axes, scores) if enough else ([], "")
    page = environment().get_template("tune.html.j2")
    metrics = run_folder.read_json(folder / "best" / "metrics.json")
    content = {
        "results": results,
        "version": __version__,
        "completed": completed,
        "failed": [row for row in trials if row["status"] == "FAILED"],
        "names": list(dict.fromkeys(name for row in trials for name in row["values"])),
        "coordinates": parallel_coordinates(axes, scores, results["objective"], results["direction"])
        if enough
        else None,
        "ranking": ranking,
        "method": method,
        "metrics": metrics,
        "test_score": _test_score(metrics["test"]) if metrics else "",
        "flags": (folder / "run.flags").read_text() if (folder / "run.flags").is_file() else "",
        "folder": folder.as_posix(),
        "format_value": _format_value,
    }
    text = page.render(content)
    run_folder.write(folder / "tune.html", lambda file: file.write(text.encode("utf-8", "replace")))


def _test_score(test: dict[str, Any]) -> str:
    """Returns the winner's test score as text. Several targets may have different units, so each one's is given."""
    for key, name in (("accuracy", "accuracy"), ("map", "mean average precision")):
        if key in test:
            return f"{name} {number(test[key])}"
    if asked_quantile(test) is not None:
        return f"{TITLES['pinball']} {number(test['pinball'])}, coverage {percent(test['coverage'])}"
    targets = [f"“{name}” {number(row['mae'])}" for name, row in test["per_target"].items()]
    return "mean absolute error " + (", ".join(targets) if len(targets) > 1 else number(test["mae"]))


def rank_trials(trials: list[dict[str, Any]], direction: str) -> list[dict[str, Any]]:
    """Returns the rows with a score, the best first. Equal scores are ordered by the validation loss, where there is one.

    A search of the losses of regression has none: each trial would have its own.

    Args:
        trials: rows of `tune.json`.
        direction: `min` or `max`, what is better.
    """
    sign = 1 if direction == "min" else -1
    completed = [row for row in trials if row["status"] == "COMPLETED"]
    return sorted(completed, key=lambda row: (sign * row["score"], row["measures"].get("val_loss", 0.0)))


def parallel_coordinates(axes: list[Axis], scores: np.ndarray, objective: str, direction: str) -> Markup:
    """Draws parallel coordinates: one line for each trial, the best one in front. The axes are rows, to fit a phone.

    Args:
        axes: of the searched settings.
        scores: float [N], the best first.
    """
    low, high = float(scores.min()), float(scores.max())
    positions = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
    rows = [*axes, Axis(objective, positions, (), (number(low), number(high)))]
    x0, x1 = MARGIN, WIDTH - MARGIN
    parts = []
    for index in reversed(range(len(scores))):
        points = [
            f"{x0 + axis.positions[index] * (x1 - x0):.1f},{_row_y(row):.1f}"
            for row, axis in enumerate(rows)
            if math.isfinite(axis.positions[index])
        ]
        opacity = f"{0.8 - 0.65 * index / max(len(scores) - 1, 1):.2f}"
        style = {"class_": "line best"} if index == 0 else {"class_": "line val", "stroke_opacity": opacity}
        parts.append(tag("polyline", points=" ".join(points), **style))
    for row, axis in enumerate(rows):
        y = _row_y(row)
        better = {"min": " (lower is better)", "max": " (higher is better)"}[direction] if row == len(rows) - 1 else ""
        parts.append(tag("line", class_="base", x1=x0, x2=x1, y1=y, y2=y))
        parts.append(tag("text", axis.name + better, class_="label strong", x=x0, y=y - 24))
        parts += _ticks(axis, x0, x1, y)
    title = f"Parallel coordinates of {len(scores)} trials over {', '.join(axis.name for axis in axes)}"
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {ROW_HEIGHT * len(rows) + 6}", role="img", aria_label=title)


def _ticks(axis: Axis, x0: float, x1: float, y: float) -> list[Markup]:
    """Labels the ends of a range, or each value of a choice, shortened to the space that there is."""
    if not axis.options:
        ends = zip(axis.ends, (x0, x1), ("start", "end"))
        return [tag("text", text, class_="tick", x=x, y=y - 7, text_anchor=side) for text, x, side in ends]
    parts, count = [], len(axis.options)
    # Characters that fit between two neighbours, at 7 units each.
    room = int((x1 - x0) / (1.5 * max(count - 1, 1) if count > 2 else 2) / 7)
    for position, option in enumerate(axis.options):
        x = x0 + (position / (count - 1) if count > 1 else 0.5) * (x1 - x0)
        side = "middle" if count == 1 or 0 < position < count - 1 else "start" if position == 0 else "end"
        text = option if len(option) <= room else option[: max(room - 1, 1)] + "…"
        parts.append(tag("circle", class_="stop", cx=x, cy=y, r=3))
        parts.append(tag("text", tag("title", option), text, class_="tick", x=x, y=y - 7, text_anchor=side))
    return parts


def _row_y(row: int) -> float:
    return ROW_HEIGHT * row + 40.0


def _axes(completed: list[dict[str, Any]]) -> list[Axis]:
    """Returns the settings that differ between trials."""
    names = list(dict.fromkeys(name for row in completed for name in row["values"]))
    axes = [_axis(name, [row["values"].get(name) for row in completed]) for name in names]
    return [axis for axis in axes if len(np.unique(axis.positions[np.isfinite(axis.positions)])) > 1]


def _axis(name: str, values: list[Any]) -> Axis:
    present = [value for value in values if value is not None]
    if any(isinstance(value, (str, bool)) for value in present):
        options = sorted(set(map(str, present)))
        step = max(len(options) - 1, 1)
        positions = [math.nan if value is None else options.index(str(value)) / step for value in values]
        return Axis(name, np.array(positions), tuple(options), ("", ""))
    low, high = min(present), max(present)
    logarithmic = low > 0 and high / low >= 20
    scale = math.log if logarithmic else float
    width = scale(high) - scale(low) or 1.0
    positions = [math.nan if value is None else (scale(value) - scale(low)) / width for value in values]
    return Axis(name, np.array(positions), (), (_format_value(low), _format_value(high)))


def _format_value(value: Any) -> str:
    """Returns a value as in the flags, numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value).strip('"')
