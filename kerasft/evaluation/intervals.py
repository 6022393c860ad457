"""Confidence intervals of scores and differences, and standard errors."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Resamples of a bootstrap, if it is not too expensive.
RESAMPLES = 1000

# A bootstrap reads at most so many numbers, which takes a second or two.
_MAX_NUMBERS = 1e8

# The normal distribution's 97.5 % point.
_Z = 1.959963984540054


def wilson(successes: float, n: float) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927). Unlike the normal interval it also holds near 0 and 1."""
    share, shrink = successes / n, 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / shrink
    half = _Z / shrink * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def share_interval(right: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % interval of a proportion where examples of one group are no independent draws.

    It is Wilson's for the number of independent examples that would have the same standard error. That is smaller where
    there are few groups, whose error is known badly (Korn and Graubard 1998).

    Args:
        right: bool [N].
        groups: [N], as for `standard_error`. A single group gives NaN.
    """
    from scipy.stats import t

    share, count = float(right.mean()), len(np.unique(groups))
    if count < 2:
        return np.nan, np.nan
    variance = standard_error(right.astype(float), groups) ** 2
    # Where all are right, or none, the images do not tell how alike those of a group are. Then a group counts as one.
    effective = float(count)
    if variance:
        effective = min(len(right), share * (1 - share) / variance) * (_Z / float(t.ppf(0.975, count - 1))) ** 2
    return wilson(share * effective, effective)


def paired_difference(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95 % interval of the difference of two proportions on the same examples, second less first.

    It is Wald's, after one example of each kind of disagreement was added (Bonett and Price 2012). So it holds for few
    examples too, and two classifiers that never disagree do not get an interval of width 0.

    Args:
        first, second: bool [N], such as whether each example was classified correctly.
        groups: [N], as for `standard_error`. Then the interval of the mean by groups is taken where it is wider.
    """
    if groups is not None:
        ends = paired_difference(first, second), mean_interval(second.astype(float) - first, groups)
        # A single group tells nothing.
        known = np.isfinite(ends).all()
        return (max(-1.0, float(np.min(ends))), min(1.0, float(np.max(ends)))) if known else (np.nan, np.nan)
    n = len(first) + 2
    lost, gained = (np.sum(first & ~second) + 1) / n, (np.sum(second & ~first) + 1) / n
    centre, half = gained - lost, _Z * np.sqrt((gained + lost - (gained - lost) ** 2) / n)
    return max(-1.0, float(centre - half)), min(1.0, float(centre + half))


class Bootstrap(NamedTuple):
    """What a bootstrap has found.

    Attributes:
        low, high: the ends of its 95 % interval; NaN if no resample gives a number.
        mean: of the resamples.
    """

    low: float
    high: float
    mean: float

    def centred(self, value: float, least: float, most: float) -> tuple[float, float]:
        """The ends for a statistic whose resamples are too high on average, moved by that, and kept within its range.

        Average precision is one: a positive that is drawn twice counts itself as a hit. Resamples that all give the same
        tell nothing of its error, so the ends are NaN then.

        Args:
            value: of the statistic on the examples as they are.
            least, most: that it can be.
        """
        if not self.low < self.high:
            return np.nan, np.nan
        low, high = (float(np.clip(end + value - self.mean, least, most)) for end in (self.low, self.high))
        return low, high


def standard_error(values: np.ndarray, groups: np.ndarray | None = None) -> float:
    """The standard error of the mean of values, float [N]; NaN for fewer than two.

    Args:
        groups: [N], equal for examples that are no independent draws, such as images of one patient. Then it is the
            cluster-robust one (Liang and Zeger 1986), NaN for a single group.
    """
    gaps = values - values.mean()
    sums = gaps if groups is None else np.bincount(_codes(groups), gaps)
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * np.square(sums).sum()) / len(values)) if n > 1 else np.nan


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None, least: float = -np.inf) -> tuple[float, float]:
    """95 % interval of a mean, of Student's distribution: for few examples a bootstrap's is far too narrow.

    Args:
        values: float [N].
        groups: [N], as for `standard_error`.
        least: that the mean can be.

    Returns:
        Low and high end; NaN for fewer than two examples, or groups.
    """
    from scipy.stats import t

    n = len(values) if groups is None else len(np.unique(groups))
    if n < 2:
        return np.nan, np.nan
    centre, half = float(values.mean()), float(t.ppf(0.975, n - 1)) * standard_error(values, groups)
    return max(least, centre - half), centre + half


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    n: int,
    cost: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Bootstrap:
    """95 % percentile interval over resampled examples (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: from weights, float64 [N] (how often each example was drawn), to a number.
        n: number of examples.
        cost: how many numbers `statistic` reads for each example. An expensive one gets fewer resamples.
        seed: of the resampling.
        groups: [N]; whole groups are drawn.
    """
    rng = np.random.default_rng(seed)
    resamples = int(np.clip(_MAX_NUMBERS / (n * cost), 100, RESAMPLES))
    codes = np.arange(n) if groups is None else _codes(groups)
    units = int(codes.max()) + 1
    drawn = (np.bincount(rng.integers(units, size=units), minlength=units).astype(float) for _ in range(resamples))
    values = [statistic(counts[codes]) for counts in drawn]
    if np.isnan(values).all():
        return Bootstrap(np.nan, np.nan, np.nan)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Bootstrap(float(low), float(high), float(np.nanmean(values)))


def _codes(groups: np.ndarray) -> np.ndarray:
    """The groups as int [N], from 0 without gaps."""
    return np.unique(groups, return_inverse=True)[1]


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
