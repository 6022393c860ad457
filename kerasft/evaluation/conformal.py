"""Split conformal prediction: sets of labels and intervals that hold the truth with a stated probability.

The promise is marginal: it holds on average over images that come as the validation images did (Vovk et al. 2005, Angelopoulos
and Bates 2021).
"""

import math
from typing import NamedTuple

import numpy as np


class Conformal(NamedTuple):
    """What a coverage needs.

    Attributes:
        coverage: the share of images whose set or interval is to hold the truth, in (0, 1).
        min_probability: single-label: a label is in the set if its probability is at least this; else None.
        radius: regression: float64 [D], half the width of the interval of each target; else None.
    """

    coverage: float
    min_probability: float | None = None
    radius: np.ndarray | None = None


def needed_images(coverage: float) -> int:
    """How many validation images a coverage needs: with fewer, the quantile of `corrected_quantile` is infinite."""
    # Rounded: 1 / (1 - 0.9) is a little more than 10 in binary.
    return math.ceil(round(coverage / (1 - coverage), 9))


def corrected_quantile(scores: np.ndarray, coverage: float) -> np.ndarray:
    """The ceil((n + 1) * coverage)-th smallest of n scores, by column.

    The score of a new image is at most this with a probability of at least `coverage`, whatever the distribution.

    Args:
        scores: float [n, ...].
        coverage: in (0, 1).

    Raises:
        ValueError: there are fewer scores than `needed_images`.
    """
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    if rank > len(scores):
        raise ValueError(f"a coverage of {coverage} needs {needed_images(coverage)} scores; there are {len(scores)}")
    return np.sort(scores, axis=0)[rank - 1]


def fit_sets(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> Conformal:
    """Fits sets of labels with the least ambiguity (Sadinle et al. 2019): the probability of the true label is the score.

    They are the smallest sets on average of all that have the coverage, and they need no random draw. Adaptive
    prediction sets (Romano et al. 2020) need one for an exact coverage, so the same image would get several answers.

    Args:
        probabilities: float [N, C], of validation images.
        labels: int [N].
        coverage: in (0, 1).
    """
    true = probabilities[np.arange(len(labels)), labels]
    return Conformal(coverage, min_probability=float(-corrected_quantile(-true, coverage)))


def fit_intervals(values: np.ndarray, labels: np.ndarray, coverage: float) -> Conformal:
    """Fits intervals from the absolute residuals, each target by itself (Lei et al. 2018).

    Args:
        values, labels: float [N, D], of validation images.
        coverage: in (0, 1).
    """
    residuals = np.abs(values.astype(np.float64) - labels.astype(np.float64))
    return Conformal(coverage, radius=corrected_quantile(residuals, coverage))


def label_sets(conformal: Conformal, probabilities: np.ndarray) -> np.ndarray:
    """Which labels are in the set of each image, bool [N, C]. A set may be empty: no label is likely enough."""
    return probabilities >= conformal.min_probability


def figures_of_sets(conformal: Conformal, probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """The share of images whose set has the true label, and the mean size of the sets, for `metrics.json`."""
    sets = label_sets(conformal, probabilities)
    found = {
        "observed": float(sets[np.arange(len(labels)), labels].mean()),
        "mean_set_size": float(sets.sum(-1).mean()),
    }
    return {**found, "empty_sets": float((~sets.any(-1)).mean()), "least_probability": conformal.min_probability}


def figures_of_intervals(conformal: Conformal, values: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> dict:
    """The share of images whose interval has the true value, and its width, by target, for `metrics.json`."""
    inside = (np.abs(values - labels) <= conformal.radius).mean(0)
    widths = {name: float(2 * radius) for name, radius in zip(names, conformal.radius)}
    # The least of the targets, so that one number never promises too much.
    return {"observed": float(inside.min()), "by_target": dict(zip(names, inside.tolist())), "width": widths}
