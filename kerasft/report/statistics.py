"""How sure the figures of a report are, and which examples are worth a look."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BINS = 15  # of equal width, as Guo et al. 2017 use
RESAMPLES = 1000
_BUDGET = 1e8  # numbers that a bootstrap goes through at the most, a second or two
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


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


class Mistake(NamedTuple):
    """A wrong answer.

    Attributes:
        index: place in the test split.
        labels: wrong labels of the picture (multi-label), the worst first; the predicted one (single label);
            targets, the worst first (regression).
    """

    index: int
    labels: tuple[int, ...]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927): right near 0 and 1 and for few examples, unlike the normal one."""
    share, shrink = successes / n, 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / shrink
    half = _Z / shrink * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, cost: int = 1, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval over resampled examples (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: from weights, float64 [N] (how often each example was drawn), to a number.
        n: examples.
        cost: numbers that it looks at for each example; where that is much, fewer resamples are drawn.
        seed: of the draws.

    Returns:
        Low and high end; NaN where no resample gives a number.
    """
    rng = np.random.default_rng(seed)
    resamples = int(np.clip(_BUDGET / (n * cost), 100, RESAMPLES))
    found = [statistic(np.bincount(rng.integers(n, size=n), minlength=n).astype(float)) for _ in range(resamples)]
    if np.isnan(found).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Average precision of each class, as a function of the examples' weights; sorts once for all resamples.

    As in scikit-learn's `average_precision_score`: precision at each distinct score, times the rise in recall.

    Args:
        scores: float [N, C].
        labels: 0 or 1 [N, C].

    Returns:
        From weights [N] to float64 [C]; NaN for a class without a weighted positive example.
    """
    ranked = []
    for column, truth in zip(scores.T, labels.T > 0):
        order = np.argsort(-column, kind="stable")
        # Equal scores are one threshold: the last of them stands for all.
        ends = np.flatnonzero(np.append(np.diff(column[order]) != 0, True))
        ranked.append((order, truth[order], ends))

    def one(drawn: np.ndarray, truth: np.ndarray, ends: np.ndarray) -> float:
        seen, hits = np.cumsum(drawn)[ends], np.cumsum(drawn * truth)[ends]
        gained = np.diff(hits, prepend=0)
        return float((gained * hits / np.maximum(seen, 1)).sum() / hits[-1]) if hits[-1] else np.nan

    return lambda weights: np.array([one(weights[order], truth, ends) for order, truth, ends in ranked])


def calibration(probabilities: np.ndarray, outcomes: np.ndarray) -> list[Bin]:
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


def confusions(matrix: np.ndarray, most: int) -> list[tuple[int, int, int, float]]:
    """The most frequent mistakes of a confusion matrix, int [C, C]: class, taken for, how often, share of the class."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows = [divmod(int(place), len(matrix)) for place in order]
    return [(i, j, int(wrong[i, j]), float(wrong[i, j] / matrix[i].sum())) for i, j in rows if wrong[i, j]]


def single_label_mistakes(probabilities: np.ndarray, labels: np.ndarray, most: int) -> list[Mistake]:
    """Wrong answers, the surest first: probabilities float [N, C], labels int [N]."""
    guess, sure = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(guess != labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    return [Mistake(int(index), (int(guess[index]),)) for index in chosen]


def multi_label_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, most: int
) -> list[Mistake]:
    """Pictures with wrong labels, by the distance of the worst one's probability from the truth.

    Args:
        probabilities, labels: float [N, C].
        thresholds: float [C]; a label is given from its threshold on.
        most: pictures.
    """
    distance = np.where((probabilities >= thresholds) != (labels > 0), np.abs(probabilities - labels), 0)
    chosen = np.argsort(-distance.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-distance[i], kind="stable") if distance[i, j]))
        for i in chosen
        if distance[i].any()
    ]


def regression_mistakes(values: np.ndarray, labels: np.ndarray, most: int) -> list[Mistake]:
    """The greatest errors, in units of each target's deviation: values and labels float [N, D]."""
    deviation = labels.std(0)
    errors = np.abs(values - labels) / np.where(deviation > 0, deviation, 1)
    chosen = np.argsort(-errors.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-errors[i], kind="stable"))) for i in chosen if errors[i].any()
    ]
