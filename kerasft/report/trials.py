"""The page of a search: `tune.html`, the trials, what the settings did, and the winner."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from kerasft import __version__
from kerasft.console.wording import number
from kerasft.evidence.figures import WIDTH, tag
from kerasft.report.importance import Axis, importance
from kerasft.report.page import environment
from kerasft.storage import run_folder

ROW = 62  # height of one axis of the parallel coordinates
MARGIN = 14
LEAST = 2  # trials for figures


def write_search(folder: Path) -> None:
    """Writes `tune.html` from `tune.json` and, once the winner is trained, its `metrics.json`."""
    found = run_folder.read_json(folder / "tune.json")
    trials = found["trials"]
    done = ranked(trials, found["direction"])
    scores = np.array([row["score"] for row in done])
    axes = _axes(done)
    enough = len(done) >= LEAST and axes
    ranking, method = importance(axes, scores) if enough else ([], "")
    page = environment().get_template("tune.html.j2")
    metrics = run_folder.read_json(folder / "best" / "metrics.json")
    content = {
        "found": found,
        "version": __version__,
        "done": done,
        "failed": [row for row in trials if row["status"] == "FAILED"],
        "names": list(dict.fromkeys(name for row in trials for name in row["values"])),
        "coordinates": parallel(axes, scores, found["objective"], found["direction"]) if enough else None,
        "ranking": ranking,
        "method": method,
        "metrics": metrics,
        "reached": _reached(metrics["test"]) if metrics else "",
        "flags": (folder / "run.flags").read_text() if (folder / "run.flags").is_file() else "",
        "folder": folder.as_posix(),
        "shown": _shown,
    }
    text = page.render(content)
    run_folder.write(folder / "tune.html", lambda file: file.write(text.encode("utf-8", "replace")))


def _reached(test: dict[str, Any]) -> str:
    """The winner's figure on the test split; of several targets each one's, for they may have different units."""
    for key, name in (("accuracy", "accuracy"), ("map", "mean average precision")):
        if key in test:
            return f"{name} {number(test[key])}"
    each = [f"“{name}” {number(row['mae'])}" for name, row in test["per_target"].items()]
    return "mean absolute error " + (", ".join(each) if len(each) > 1 else number(test["mae"]))


def ranked(found: list[dict[str, Any]], direction: str) -> list[dict[str, Any]]:
    """The rows that have a score, the best first; where scores are equal, by the validation loss."""
    sign = 1 if direction == "min" else -1
    done = [row for row in found if row["status"] == "COMPLETED"]
    return sorted(done, key=lambda row: (sign * row["score"], row["measures"]["val_loss"]))


def parallel(axes: list[Axis], scores: np.ndarray, objective: str, direction: str) -> Markup:
    """Parallel coordinates, an axis a row so that they fit a phone: a line a trial, the best one in front.

    Args:
        axes: of the searched settings.
        scores: float [N], the best first.
    """
    low, high = float(scores.min()), float(scores.max())
    places = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
    rows = [*axes, Axis(objective, places, (), (number(low), number(high)))]
    x0, x1 = MARGIN, WIDTH - MARGIN
    parts = []
    for index in reversed(range(len(scores))):
        points = [
            f"{x0 + axis.places[index] * (x1 - x0):.1f},{_height(row):.1f}"
            for row, axis in enumerate(rows)
            if math.isfinite(axis.places[index])
        ]
        strength = f"{0.8 - 0.65 * index / max(len(scores) - 1, 1):.2f}"
        style = {"class_": "line best"} if index == 0 else {"class_": "line val", "stroke_opacity": strength}
        parts.append(tag("polyline", points=" ".join(points), **style))
    for row, axis in enumerate(rows):
        y = _height(row)
        better = {"min": " (lower is better)", "max": " (higher is better)"}[direction] if row == len(rows) - 1 else ""
        parts.append(tag("line", class_="base", x1=x0, x2=x1, y1=y, y2=y))
        parts.append(tag("text", axis.name + better, class_="label strong", x=x0, y=y - 22))
        parts += _ticks(axis, x0, x1, y)
    title = f"Parallel coordinates of {len(scores)} trials over {', '.join(axis.name for axis in axes)}"
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {ROW * len(rows) + 6}", role="img", aria_label=title)


def _ticks(axis: Axis, x0: float, x1: float, y: float) -> list[Markup]:
    """The ends of a range; of a choice each value, as far as there is room."""
    if not axis.options:
        ends = zip(axis.ends, (x0, x1), ("start", "end"))
        return [tag("text", text, class_="tick", x=x, y=y - 7, text_anchor=side) for text, x, side in ends]
    parts, count = [], len(axis.options)
    room = int((x1 - x0) / (1.5 * max(count - 1, 1) if count > 2 else 2) / 7)  # characters, between neighbours
    for place, option in enumerate(axis.options):
        x = x0 + (place / (count - 1) if count > 1 else 0.5) * (x1 - x0)
        side = "middle" if count == 1 or 0 < place < count - 1 else "start" if place == 0 else "end"
        text = option if len(option) <= room else option[: max(room - 1, 1)] + "…"
        parts.append(tag("circle", class_="stop", cx=x, cy=y, r=3))
        parts.append(tag("text", tag("title", option), text, class_="tick", x=x, y=y - 7, text_anchor=side))
    return parts


def _height(row: int) -> float:
    return ROW * row + 40.0


def _axes(done: list[dict[str, Any]]) -> list[Axis]:
    """The settings that differ between trials."""
    names = list(dict.fromkeys(name for row in done for name in row["values"]))
    axes = [_axis(name, [row["values"].get(name) for row in done]) for name in names]
    return [axis for axis in axes if len(np.unique(axis.places[np.isfinite(axis.places)])) > 1]


def _axis(name: str, values: list[Any]) -> Axis:
    known = [value for value in values if value is not None]
    if any(isinstance(value, (str, bool)) for value in known):
        options = sorted(set(map(str, known)))
        step = max(len(options) - 1, 1)
        places = [math.nan if value is None else options.index(str(value)) / step for value in values]
        return Axis(name, np.array(places), tuple(options), ("", ""))
    low, high = min(known), max(known)
    logarithmic = low > 0 and high / low >= 20
    scale = math.log if logarithmic else float
    width = scale(high) - scale(low) or 1.0
    places = [math.nan if value is None else (scale(value) - scale(low)) / width for value in values]
    return Axis(name, np.array(places), (), (_shown(low), _shown(high)))


def _shown(value: Any) -> str:
    """A value as in the flags, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value).strip('"')
