"""Confidence intervals of scores and differences, and standard errors."""

from collections.abc import Callable

import numpy as np

# Resamples of a bootstrap, if it is not too expensive.
RESAMPLES = 1000

# A bootstrap reads at most so many numbers, which takes a second or two.
_MAX_NUMBERS = 1e8

# The normal distribution's 97.5 % point.
_Z = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927). Unlike the normal interval it also holds near 0 and 1."""
    share, shrink = successes / n, 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / shrink
    half = _Z / shrink * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference of two proportions on the same examples, second less first.

    It is Wald's, after one example of each kind of disagreement was added (Bonett and Price 2012). So it holds for few
    examples too, and two classifiers that never disagree do not get an interval of width 0.

    Args:
        first, second: bool [N], such as whether each example was classified correctly.
    """
    n = len(first) + 2
    lost, gained = (np.sum(first & ~second) + 1) / n, (np.sum(second & ~first) + 1) / n
    centre, half = gained - lost, _Z * np.sqrt((gained + lost - (gained - lost) ** 2) / n)
    return max(-1.0, float(centre - half)), min(1.0, float(centre + half))


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of values, float [N]; NaN for fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, cost: int = 1, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval over resampled examples (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: from weights, float64 [N] (how often each example was drawn), to a number.
        n: number of examples.
        cost: how many numbers `statistic` reads for each example. An expensive one gets fewer resamples.
        seed: of the resampling.

    Returns:
        Low and high end; NaN if no resample gives a number.
    """
    rng = np.random.default_rng(seed)
    resamples = int(np.clip(_MAX_NUMBERS / (n * cost), 100, RESAMPLES))
    values = [statistic(np.bincount(rng.integers(n, size=n), minlength=n).astype(float)) for _ in range(resamples)]
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from example weights to the average precision of each class. It sorts once for all resamples.

    As scikit-learn's `average_precision_score`: the sum of precision times the increase of recall, over distinct scores.

    Args:
        scores: float [N, C].
        labels: 0 or 1 [N, C].

    Returns:
        A function from weights [N] to float64 [C]; NaN for a class without a positive example of positive weight.
    """
    ranked = []
    for column, truth in zip(scores.T, labels.T > 0):
        order = np.argsort(-column, kind="stable")
        # Equal scores are one threshold. The position of the last one is kept.
        ends = np.flatnonzero(np.append(np.diff(column[order]) != 0, True))
        ranked.append((order, truth[order], ends))

    def one(drawn: np.ndarray, truth: np.ndarray, ends: np.ndarray) -> float:
        seen, hits = np.cumsum(drawn)[ends], np.cumsum(drawn * truth)[ends]
        gained = np.diff(hits, prepend=0)
        return float((gained * hits / np.maximum(seen, 1)).sum() / hits[-1]) if hits[-1] else np.nan

    return lambda weights: np.array([one(weights[order], truth, ends) for order, truth, ends in ranked])
