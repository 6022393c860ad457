"""The page of the artefacts of a run, `compress.html`, and which of them is the cheapest of the good ones."""

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kerasft import __version__
from kerasft.console.wording import NOT_MEASURED, number, percent
from kerasft.evaluation.score_names import ERRORS, formatter
from kerasft.evidence import figures
from kerasft.report.compare_page import score_name
from kerasft.report.report_page import environment
from kerasft.storage import run_folder

Row = dict[str, Any]

# The normal distribution's 97.5 % point: a 95 % interval is so many standard errors to each side.
_Z = 1.959963984540054

# The batch size by which artefacts are compared: a request of one image.
ONE = "1"


def write_compress(folder: Path, values: Row) -> None:
    """Writes `compress.html`.

    Args:
        folder: the run folder, with `run.flags`.
        values: the contents of `compress.json`.
    """
    score = values["score"]
    rows = [row for row in values["rows"] if "loss" in row]
    known = [row for row in rows if row.get(score) is not None]
    content = {
        "found": values,
        "score_name": score_name(score),
        "rows": [(row, cells(row, score)) for row in rows],
        "slimmer": sum("parent" in row for row in rows),
        "numbers": {row["artefact"]: row["number"] for row in values["rows"]},
        "missing": [row for row in values["rows"] if not row["published"]],
        "figures": [figure for figure in (_by_speed(known, score), _by_size(known, score)) if figure],
        "sentence": sentence(values),
        "n": rows[0]["n"] if rows else 0,
        "version": __version__,
        "flags": (folder / "run.flags").read_text(),
        "folder": folder.as_posix(),
    }
    page = environment().get_template("compress.html.j2").render(content)
    run_folder.write(folder / "compress.html", lambda file: file.write(page.encode("utf-8", "replace")))


def speed(row: Row) -> float | None:
    """Images a second, with one image a call; None where it was not measured."""
    return (row.get("images_per_second") or {}).get(ONE)


def pareto(rows: list[Row], score: str, cost: str) -> list[Row]:
    """The rows than which no other is both better and cheaper, the cheapest first.

    Args:
        rows: with a score and that cost.
        score: of which less is better if it is one of `ERRORS`.
        cost: `seconds` (of an image, one image a call) or `bytes`.
    """
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (_cost(row, cost), -_gain(row, score))):
        if not front or _gain(row, score) > _gain(front[-1], score):
            front.append(row)
    return front


def fastest_and_smallest(rows: list[Row], score: str) -> Row | None:
    """Which published artefact is the fastest, and which the smallest, within one standard error of the best score.

    Breiman et al. 1984: a difference below the standard error of the best is no reason to pay for it.

    Returns:
        `best`, `standard_error`, `fastest` (None if speeds were not measured) and `smallest`, by the names of artefacts;
        None where there is no score, or no interval.
    """
    known = [row for row in rows if row["published"] and row.get(score) is not None]
    best = max(known, key=lambda row: _gain(row, score), default={})
    # The images may give no interval, for example where all of them are ranked perfectly.
    if not best.get("interval"):
        return None
    error = (best["interval"][1] - best["interval"][0]) / (2 * _Z)
    good = [row for row in known if _gain(row, score) >= _gain(best, score) - error]
    # Speeds that were not taken side by side tell nothing.
    timed = good if all(map(speed, good)) else []
    return {
        "best": best["artefact"],
        "standard_error": error,
        "fastest": max(timed, key=speed)["artefact"] if timed else None,
        "smallest": min(good, key=lambda row: row["bytes"])["artefact"],
    }


def sentence(values: Row) -> str:
    """The result of `fastest_and_smallest` in words; empty without one."""
    found, score = values["cheapest"], values["score"]
    if found is None:
        return ""
    rows = {row["artefact"]: row for row in values["rows"]}
    fast, small = found["fastest"], found["smallest"]
    best = rows[found["best"]]
    within = (
        f"within one standard error ({shown(found['standard_error'], score)}) of the best "
        f"{score_name(score)}, {shown(best[score], score)} of {found['best']}"
    )
    size = f"{rows[small]['bytes'] / 1000:,.0f} kB"
    if fast is None:
        return f"{small} is the smallest ({size}) {within}."
    rate = f"{number(speed(rows[fast]))} images/s"
    if fast == small:
        return f"{fast} is the fastest ({rate}) and the smallest ({size}) {within}."
    return f"{fast} is the fastest ({rate}), and {small} the smallest ({size}), {within}."


def shown(value: float | None, score: str) -> str:
    """A score as text; a dash where it was not measured, as where no test image has a label."""
    return formatter(score)(value)


def cells(row: Row, score: str) -> dict[str, str]:
    """The figures of a row as texts, by the names of their columns."""
    rates = row.get("images_per_second") or {}
    interval = row.get("interval")
    return {
        "score": shown(row.get(score), score),
        "interval": f"{shown(interval[0], score)} to {shown(interval[1], score)}" if interval else NOT_MEASURED,
        "loss": f"{row['loss']:.3f}",
        "agreement": percent(row.get("agreement")),
        "size": f"{row['bytes'] / 1000:,.0f} kB",
        "memory": f"{row['peak_rss_mb']:,.0f} MB" if "peak_rss_mb" in row else NOT_MEASURED,
        "startup": f"{row['startup_seconds']:.1f} s" if "startup_seconds" in row else NOT_MEASURED,
        "single": number(rates.get(ONE)),
        "batch": number(rates.get("32")),
    }


def _gain(row: Row, score: str) -> float:
    return -row[score] if score in ERRORS else row[score]


def _cost(row: Row, cost: str) -> float:
    return row["bytes"] if cost == "bytes" else 1 / speed(row)


def _by_speed(rows: list[Row], score: str) -> Row | None:
    timed = [row for row in rows if speed(row)]
    if len(timed) < 2:
        return None
    text = f"{score_name(score)} by images a second, one image a call"
    return {"title": text, "svg": _scatter(timed, score, "seconds", "images/s, one image a call", text)}


def _by_size(rows: list[Row], score: str) -> Row | None:
    if len(rows) < 2:
        return None
    text = f"{score_name(score)} by size on disk"
    return {"title": text, "svg": _scatter(rows, score, "bytes", "kB", text)}


def _scatter(rows: list[Row], score: str, cost: str, unit: str, title: str) -> Markup:
    """Draws each row as a point with its number over a logarithmic axis, the front as a line, and one standard error as a band."""

    def place(row: Row) -> float:
        return math.log10(speed(row) if cost == "seconds" else row["bytes"] / 1000)

    band = _band(rows, score)
    y_range = figures.value_range([*(row[score] for row in rows), *band])
    low, high = figures.value_range([place(row) for row in rows])
    x, y = figures.plane((low, high), y_range)
    front = pareto([row for row in rows if row["published"]], score, cost)
    parts = []
    if band:
        size = {"width": figures.WIDTH - figures.LEFT - figures.RIGHT, "height": y(band[0]) - y(band[1])}
        parts.append(figures.tag("rect", class_="band", x=figures.LEFT, y=y(band[1]), **size))
    parts += figures.polylines("front", [(x(place(row)), y(row[score])) for row in front])
    labels: list[tuple[float, float]] = []
    # Those on the front come last, and are smaller: nothing hides them, and they hide nothing.
    for row in sorted(rows, key=lambda row: (row in front, place(row))):
        at = x(place(row)), y(row[score])
        look = {"class_": "dot val", "r": 3.5} if row in front else {"class_": "dot train", "r": 5.5}
        parts.append(figures.tag("circle", cx=at[0], cy=at[1], **look))
        # Above its point, or as far below or above as is free, and inside the figure.
        offsets = (-9.0, 18.0, -22.0, 31.0, -35.0, 44.0)
        heights = [at[1] + offset for offset in offsets if 10 <= at[1] + offset <= figures.HEIGHT - figures.BOTTOM]
        free = [height for height in heights if not _covered(labels, at[0], height)]
        labels.append((at[0], free[0] if free else at[1] - 9))
        number_at = {"x": at[0], "y": labels[-1][1], "text_anchor": "middle"}
        parts.append(figures.tag("text", str(row["number"]), class_="label", **number_at))
    ticks = [(math.log10(value), text) for value, text in _marks(10**low, 10**high)]
    return figures.svg(title, figures.axes(x, y, ticks, figures.marks(*y_range), unit), *parts)


def _covered(labels: list[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a number at this place would touch another one."""
    return any(abs(x - a) < 16 and abs(y - b) < 12 for a, b in labels)


def _band(rows: list[Row], score: str) -> tuple[float, float] | tuple[()]:
    """The scores from the best to one standard error below it, low end first; empty without an interval."""
    found = fastest_and_smallest(rows, score)
    if found is None:
        return ()
    best = next(row[score] for row in rows if row["artefact"] == found["best"])
    other = best + found["standard_error"] * (1 if score in ERRORS else -1)
    return min(best, other), max(best, other)


def _marks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers on a logarithmic axis, and their text. A short one has those of a linear axis."""
    found = [(value, f"{value:,g}") for value in _round_numbers(low, high)]
    return found if len(found) > 1 else figures.marks(low, high)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers; at most six, so the coarser ones first."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    found = [value for value in every if low <= value <= high]
    return found if len(found) <= 6 else [value for value in found if math.log10(value).is_integer()]
