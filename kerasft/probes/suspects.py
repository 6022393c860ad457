"""Suspects: images whose label is probably wrong, and images that are like no other.

Labels are judged by held-out predictions (`held_out`), so no image speaks for its own label. The rule for classes is
confident learning (Northcutt, Jiang and Chuang, JAIR 2021): an image is suspect where the prediction for another class is
at least as sure as it usually is for images of that class. Outliers are far from their nearest neighbours (Knorr and Ng
1998; Kuan and Mueller 2022 on features of a network).
"""

from typing import NamedTuple

import numpy as np

# A suspect label must also be contradicted so much: the score is half the gap of the two probabilities, plus a half.
MIN_LABEL_SCORE = 0.95
# Values: the residual must be so many robust standard deviations (1.4826 times the median absolute deviation).
MIN_DEVIATIONS = 6.0
_MAD_TO_DEVIATION = 1.4826
# The distance to an image is the mean over its nearest neighbours, so many.
NEIGHBOURS = 10
# Of fewer images, nothing is called an outlier.
MIN_EXAMPLES = 40
# Tukey's "far out": so many interquartile ranges above the third quartile, of the logarithm of the distances.
MAX_RANGES = 3.0
# Of more images, neighbours are looked for among a sample of so many.
MAX_REFERENCES = 20_000
_ROWS_PER_STEP = 1024


class Suspects(NamedTuple):
    """What is suspicious about N images.

    Attributes:
        label_scores: float64 [N] in [0, 1], how much the prediction contradicts the label; NaN where there is none.
        is_suspect: bool [N], whether the label is probably wrong.
        outlier_scores: float64 [N] in [0, 1), r / (1 + r) for a distance of r interquartile ranges above the third quartile.
        is_outlier: bool [N].
    """

    label_scores: np.ndarray
    is_suspect: np.ndarray
    outlier_scores: np.ndarray
    is_outlier: np.ndarray


def find(features: np.ndarray, labels: np.ndarray, predicted: np.ndarray, task: str, seed: int) -> Suspects:
    """Finds suspects.

    Args:
        features: float32 [N, D], standardised.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T].
        predicted: as `held_out.predict` gives it.
        task: `single_label`, `multi_label` or `regression`.
        seed: of the sample of neighbours, where there are many images.
    """
    judge = {"single_label": judge_classes, "multi_label": judge_label_sets, "regression": judge_values}[task]
    scores, is_suspect = judge(labels, predicted)
    ranges = ranges_above(np.log(np.maximum(neighbour_distances(features, seed), 1e-6)))
    return Suspects(scores, is_suspect, np.maximum(ranges, 0) / (1 + np.maximum(ranges, 0)), ranges > MAX_RANGES)


def judge_classes(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judges one label an image.

    Args:
        labels: int [N].
        probabilities: float [N, C], held out; a row may be NaN.

    Returns:
        Scores float64 [N], (1 + p(best other class) - p(label)) / 2, which is one minus the normalised margin of
        confident learning; and bool [N].
    """
    count, classes = probabilities.shape
    known = np.isfinite(probabilities).all(1)
    scores, is_suspect = np.full(count, np.nan), np.zeros(count, bool)
    rows, given = np.flatnonzero(known), labels[known]
    p = probabilities[known]
    own = p[np.arange(len(rows)), given]
    others = p.copy()
    others[np.arange(len(rows)), given] = -1
    scores[known] = (1 + others.max(1, initial=0) - own) / 2
    # The mean probability of a class over the images that are labelled so: equation 2 of the paper.
    sums = np.bincount(given, own, minlength=classes)
    thresholds = np.divide(sums, np.bincount(given, minlength=classes), out=np.full(classes, np.inf), where=sums > 0)
    best = others.argmax(1)
    confident = p[np.arange(len(rows)), best] >= thresholds[best]
    is_suspect[known] = confident & (scores[known] >= MIN_LABEL_SCORE)
    return scores, is_suspect


def judge_label_sets(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judges several labels an image, each by itself as present or absent: the most contradicted one counts.

    Args:
        labels: float [N, C] of 0 and 1.
        probabilities: float [N, C], held out; NaN where nothing is known.

    Returns:
        As `judge_classes`.
    """
    scores, is_suspect = np.full(len(labels), np.nan), np.zeros(len(labels), bool)
    for has, p in zip((labels > 0).T, probabilities.T):
        if np.isfinite(p).any():
            found, suspect = judge_classes(has.astype(int), np.stack([1 - p, p], 1))
            scores = np.fmax(scores, found)
            is_suspect |= suspect
    return scores, is_suspect


def judge_values(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judges values by their residuals: the target that is furthest off counts.

    Args:
        labels: float [N, T].
        values: float [N, T], held out; a row may be NaN.

    Returns:
        Scores float64 [N], d / (d + `MIN_DEVIATIONS`) for a residual of d robust standard deviations; and bool [N].
    """
    known = np.isfinite(values).all(1)
    scores, is_suspect = np.full(len(labels), np.nan), np.zeros(len(labels), bool)
    if not known.any():
        return scores, is_suspect
    residuals = labels[known].astype(np.float64) - values[known]
    off = np.abs(residuals - np.median(residuals, 0))
    spread = np.maximum(_MAD_TO_DEVIATION * np.median(off, 0), 1e-12)
    deviations = (off / spread).max(1)
    scores[known] = deviations / (deviations + MIN_DEVIATIONS)
    is_suspect[known] = deviations >= MIN_DEVIATIONS
    return scores, is_suspect


def neighbour_distances(features: np.ndarray, seed: int) -> np.ndarray:
    """Returns the mean Euclidean distance, float64 [N], of features [N, D] to their `NEIGHBOURS` nearest ones."""
    count, references = len(features), np.arange(len(features))
    if count > MAX_REFERENCES:
        references = np.sort(np.random.default_rng(seed).permutation(count)[:MAX_REFERENCES])
    nearest = min(NEIGHBOURS, len(references) - 1)
    if nearest < 1:
        return np.zeros(count)
    squares, others = np.square(features).sum(1), features[references].T
    distances = np.empty(count)
    for start in range(0, count, _ROWS_PER_STEP):
        rows = np.arange(start, min(start + _ROWS_PER_STEP, count))
        gaps = squares[rows, np.newaxis] + squares[references] - 2 * (features[rows] @ others)
        # An image is no neighbour of itself.
        gaps[references == rows[:, np.newaxis]] = np.inf
        closest = np.partition(gaps, nearest - 1, axis=1)[:, :nearest]
        distances[rows] = np.sqrt(np.maximum(closest, 0)).mean(1, dtype=np.float64)
    return distances


def ranges_above(values: np.ndarray) -> np.ndarray:
    """Returns how many interquartile ranges values [N] are above the third quartile, float64 [N]; 0 of too few values."""
    if len(values) < MIN_EXAMPLES:
        return np.zeros(len(values))
    first, third = np.quantile(values, (0.25, 0.75))
    return (values - third) / max(third - first, 1e-12)
