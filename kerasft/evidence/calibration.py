"""Calibration: whether predictions with a probability of 80 % are right in 80 % of the cases."""

import math
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from kerasft.console.wording import percent
from kerasft.evaluation.calibration import CALIBRATION_BINS, calibration_error
from kerasft.evidence import figures
from kerasft.evidence.predictions import Predictions, Section

# Differences up to this one, between a probability and what came true, count as none.
CLOSE = 0.01
# And those up to so many standard errors: 95 % of what chance alone gives.
STANDARD_ERRORS = 1.96


class Bin(NamedTuple):
    """Decisions of about the same probability.

    Attributes:
        low, high: the bin, (low, high].
        n: decisions in it.
        predicted: their mean probability; NaN if there are none.
        observed: the share of them that is right; NaN if there are none.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float


def calibration(predictions: Predictions) -> Section:
    """Returns the reliability diagram and a sentence about it; empty for regression."""
    if predictions.task == "regression":
        return Section("calibration", {}, {"calibration": "", "fairness": ""})
    probabilities, labels = predictions.outputs, predictions.labels
    if predictions.task == "single_label":
        confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    else:
        confidence, correct = probabilities.ravel(), labels.ravel() > 0
    bins = reliability(confidence, correct)
    filled = [row for row in bins if row.n]
    weights = [row.n for row in filled]
    predicted = float(np.average([row.predicted for row in filled], weights=weights))
    observed = float(np.average([row.observed for row in filled], weights=weights))
    error = calibration_error(confidence, correct)
    sentence = f"On average the model predicts {percent(predicted)}, and {percent(observed)} is right"
    gap, decisions = predicted - observed, confidence
    # Most labels are absent. They would hide the error of the predicted ones.
    if predictions.task == "multi_label" and (given := probabilities >= predictions.thresholds).any():
        promised, kept = float(probabilities[given].mean()), float(correct[given.ravel()].mean())
        sentence = (
            f"The labels that the model gives have {percent(promised)} on average, and {percent(kept)} of them apply"
        )
        gap, decisions = promised - kept, probabilities[given]
    sentence += f": it is {_verdict(gap, _standard_error(decisions), error, _chance(filled))}"
    drawn = diagram(bins, f"Reliability diagram; calibration error {percent(error)}")
    measured = {"promised": predicted, "observed": observed, "bins": [row._asdict() for row in filled]}
    return Section("calibration", measured, {"calibration": drawn, "fairness": sentence})


def _verdict(gap: float, standard_error: float, error: float, chance: float) -> str:
    """The calibration in words.

    Args:
        gap: how much more is predicted than observed, on average.
        standard_error: of the gap, if what is predicted comes true as often.
        error: the calibration error. In `gap`, bins that are too high and bins that are too low cancel; here they do not.
        chance: the calibration error that chance alone seldom exceeds.
    """
    if abs(gap) >= max(CLOSE, STANDARD_ERRORS * standard_error):
        return "overconfident" if gap > 0 else "underconfident"
    if error < CLOSE + chance:
        return "well calibrated" if abs(gap) < CLOSE else "as well calibrated as so few decisions can tell"
    return f"neither too sure nor too unsure on average, but its bins are off by {percent(error)} on average"


def _standard_error(probabilities: np.ndarray) -> float:
    """The standard error of the share of decisions that come true, float [M] being their true probabilities."""
    values = probabilities.astype(np.float64)
    return float(np.sqrt((values * (1 - values)).sum()) / len(values))


def _chance(bins: list[Bin]) -> float:
    """What the calibration error of decisions that come true as often as predicted seldom exceeds: each bin is off by chance.

    The size of a normal variable of mean 0 and variance v has the mean sqrt(2 v / pi), and the variance (1 - 2 / pi) v. The sum
    of them counts as normal: 95 % are below its mean and 1.645 of its standard deviations.
    """
    variances = [row.n * row.predicted * (1 - row.predicted) for row in bins]
    mean = math.sqrt(2 / math.pi) * sum(map(math.sqrt, variances))
    return (mean + 1.645 * math.sqrt((1 - 2 / math.pi) * sum(variances))) / sum(row.n for row in bins)


def reliability(probabilities: np.ndarray, outcomes: np.ndarray) -> list[Bin]:
    """Compares predicted probabilities with observed outcomes in `CALIBRATION_BINS` bins (Guo et al. 2017).

    Args:
        probabilities: float [M], of the chosen class (single label), or of each label of each example (multi-label).
        outcomes: bool [M], whether the class was right, or the label present.
    """
    place = np.clip(
        np.ceil(probabilities.astype(np.float64) * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1
    )
    bins = []
    for index in range(CALIBRATION_BINS):
        inside = place == index
        n = int(inside.sum())
        means = (float(values[inside].mean()) if n else np.nan for values in (probabilities, outcomes))
        bins.append(Bin(index / CALIBRATION_BINS, (index + 1) / CALIBRATION_BINS, n, *means))
    return bins


def diagram(bins: list[Bin], title: str) -> Markup:
    """Draws observed outcomes over predicted probabilities, and the number of decisions below."""
    x, y = figures.plane((0, 1), (0, 1))
    fifths = [(value / 5, f"{value / 5:.0%}") for value in range(6)]
    most = max(row.n for row in bins)
    parts = [figures.tag("line", class_="ideal", x1=x(0), y1=y(0), x2=x(1), y2=y(1))]
    for row in (row for row in bins if row.n):
        wide = x(row.high) - x(row.low)
        text = f"predicted {row.predicted:.0%}, observed {row.observed:.0%}, {row.n} decisions"
        top, foot = y(row.observed), y(0)
        tall = 40 * row.n / most
        parts.append(figures.tag("rect", class_="count", x=x(row.low) + 1, y=foot - tall, width=wide - 2, height=tall))
        radius = 3 + 3 * math.sqrt(row.n / most)
        mark = {"cx": x(row.predicted), "cy": top, "r": radius}
        gap = {"x1": x(row.predicted), "x2": x(row.predicted), "y1": y(row.predicted), "y2": top}
        parts += [
            figures.tag("line", class_="gap", **gap),
            figures.tag("circle", figures.tag("title", text), class_="spot", **mark),
        ]
    return figures.svg(title, figures.axes(x, y, fifths, fifths, "predicted probability"), *parts)
