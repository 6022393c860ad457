"""Calibration: whether probabilities can be taken at their word."""

import math
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from kerasft.console.wording import percent
from kerasft.evidence import figures
from kerasft.evidence.predictions import Predictions, Section

# Bins of equal width, as many as Guo et al. 2017 use.
BINS = 15


class Bin(NamedTuple):
    """Decisions of about the same probability.

    Attributes:
        low, high: the bin, (low, high].
        n: decisions in it.
        predicted: their mean probability; NaN where there are none.
        observed: the share of them that came true; NaN where there are none.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float


def calibration(predictions: Predictions) -> Section:
    """The reliability diagram and what it says; empty for regression."""
    if predictions.task == "regression":
        return Section("calibration", {}, {"calibration": "", "fairness": ""})
    probabilities, labels = predictions.outputs, predictions.labels
    if predictions.task == "single_label":
        bins = reliability(probabilities.max(-1), probabilities.argmax(-1) == labels)
    else:
        bins = reliability(probabilities.ravel(), labels.ravel() > 0)
    filled = [row for row in bins if row.n]
    weights = [row.n for row in filled]
    promised = float(np.average([row.predicted for row in filled], weights=weights))
    true = float(np.average([row.observed for row in filled], weights=weights))
    gap = promised - true
    lean = "it keeps its word" if abs(gap) < 0.01 else "it is too sure of itself" if gap > 0 else "it is too cautious"
    said = f"On average it promises {percent(promised)} and {percent(true)} comes true: {lean}"
    drawn = diagram(bins, f"Reliability diagram; calibration error {percent(calibration_error(bins))}")
    measured = {"promised": promised, "observed": true, "bins": [row._asdict() for row in filled]}
    return Section("calibration", measured, {"calibration": drawn, "fairness": said})


def reliability(probabilities: np.ndarray, outcomes: np.ndarray) -> list[Bin]:
    """What was promised against what came true (reliability diagram, Guo et al. 2017), in `BINS` bins.

    Args:
        probabilities: float [M], of the chosen class (single label), or of each label of each example (multi-label).
        outcomes: bool [M], whether it was right, or present.
    """
    place = np.clip(np.ceil(probabilities.astype(np.float64) * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for index in range(BINS):
        inside = place == index
        n = int(inside.sum())
        means = (float(values[inside].mean()) if n else np.nan for values in (probabilities, outcomes))
        bins.append(Bin(index / BINS, (index + 1) / BINS, n, *means))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean distance between promised and observed, weighted by the bins' counts."""
    total = sum(row.n for row in bins)
    return sum(row.n * abs(row.predicted - row.observed) for row in bins if row.n) / total


def diagram(bins: list[Bin], title: str) -> Markup:
    """Promised probability against what came true, and below how many decisions there were."""
    x, y = figures.plane((0, 1), (0, 1))
    fifths = [(value / 5, f"{value / 5:.0%}") for value in range(6)]
    most = max(row.n for row in bins)
    parts = [figures.tag("line", class_="ideal", x1=x(0), y1=y(0), x2=x(1), y2=y(1))]
    for row in (row for row in bins if row.n):
        wide = x(row.high) - x(row.low)
        said = f"promised {row.predicted:.0%}, true {row.observed:.0%}, {row.n} decisions"
        top, foot = y(row.observed), y(0)
        tall = 40 * row.n / most
        parts.append(figures.tag("rect", class_="count", x=x(row.low) + 1, y=foot - tall, width=wide - 2, height=tall))
        radius = 3 + 3 * math.sqrt(row.n / most)
        mark = {"cx": x(row.predicted), "cy": top, "r": radius}
        gap = {"x1": x(row.predicted), "x2": x(row.predicted), "y1": y(row.predicted), "y2": top}
        parts += [
            figures.tag("line", class_="gap", **gap),
            figures.tag("circle", figures.tag("title", said), class_="spot", **mark),
        ]
    return figures.svg(title, figures.axes(x, y, fifths, fifths, "promised probability"), *parts)
