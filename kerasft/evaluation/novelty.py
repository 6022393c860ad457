"""Novelty: how unlike the training images an image is, from what a network has computed of it anyhow.

A score is fitted on the training images, its threshold on the validation images. No image of an unknown kind is needed.
"""

from typing import NamedTuple

import numpy as np

# Training images that a distance is fitted on, at most. They are spread evenly over the split.
MAX_IMAGES = 20_000

# Rows of features that are compared at once.
CHUNK = 1024


class Distance(NamedTuple):
    """A distance in feature space: from a projected image to the nearest of some points.

    Attributes:
        mean: float32 [D], of the training features.
        projection: float32 [D, R]. An image is `(features - mean) @ projection`.
        points: float32 [P, R].
    """

    mean: np.ndarray
    projection: np.ndarray
    points: np.ndarray


class Novelty(NamedTuple):
    """A score for images of an unknown kind, and from where on it counts.

    Attributes:
        method: `energy` or `distance`.
        keep: the share of the validation images that are known.
        threshold: an image is known if its novelty is at most this.
        distance: what `distance` is fitted to; None for `energy`.
    """

    method: str
    keep: float
    threshold: float
    distance: Distance | None = None

    def score(self, features: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The novelty of images, float64 [N]; higher is stranger.

        Args:
            features: float [N, D], pooled; not read under `energy`.
            outputs: float [N, C], logits; not read under `distance`.
        """
        return energy(outputs) if self.distance is None else measure(self.distance, features)


def energy(outputs: np.ndarray) -> np.ndarray:
    """The energy at temperature 1, -logsumexp of the logits [N, C] (Liu et al. 2020, equation 4); float64 [N]."""
    from scipy.special import logsumexp

    return -logsumexp(outputs.astype(np.float64), axis=-1)


def fit_distance(features: np.ndarray, labels: np.ndarray | None) -> Distance:
    """Fits the Mahalanobis distance to the nearest class mean, with one covariance of all classes (Lee et al. 2018).

    Features are standardised, and their covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004):
    there may be fewer images than features.

    Args:
        features: float [N, D], pooled, of training images.
        labels: int [N], or None where there are no classes: then there is one mean.
    """
    from sklearn.covariance import ledoit_wolf

    features = features.astype(np.float64)
    mean, deviation = features.mean(0), features.std(0)
    # A feature that never varies must not divide by zero. What it does on an unknown image still counts.
    scale = 1 / np.maximum(deviation, max(0.01 * deviation.mean(), 1e-6))
    standardised = (features - mean) * scale
    groups = np.zeros(len(features), int) if labels is None else np.unique(labels, return_inverse=True)[1]
    centres = np.stack([standardised[groups == group].mean(0) for group in range(groups.max() + 1)])
    residuals = standardised - centres[groups]
    # With one image a class nothing is known of the deviations within a class.
    covariance = ledoit_wolf(residuals, assume_centered=True)[0] if residuals.any() else np.eye(len(mean))
    values, vectors = np.linalg.eigh(covariance)
    # Features that never vary within a class have no deviation either.
    whitening = vectors / np.sqrt(np.maximum(values, 1e-6))
    projection = scale[:, None] * whitening
    parts = mean, projection, centres @ whitening
    return Distance(*(part.astype(np.float32) for part in parts))


def measure(distance: Distance, features: np.ndarray) -> np.ndarray:
    """The distance of images to their nearest point, in units of the deviation within a class, float64 [N].

    It is divided by the root of the number of features, so a usual image has about 1.

    Args:
        features: float [N, D], pooled.
    """
    found = []
    for start in range(0, len(features), CHUNK):
        part = features[start : start + CHUNK].astype(np.float64)
        projected = (part - distance.mean) @ distance.projection.astype(np.float64)
        squares = [((projected - point) ** 2).mean(-1) for point in distance.points]
        found.append(np.sqrt(np.min(squares, axis=0)))
    return np.concatenate(found)


def fit_threshold(scores: np.ndarray, keep: float) -> float:
    """The threshold up to which a share of the scores lies: the smallest score that keeps at least `keep` of them.

    Args:
        scores: float [N], of the validation images.
        keep: in (0, 1).
    """
    return float(np.quantile(scores, keep, method="inverted_cdf"))


def spread(count: int) -> np.ndarray:
    """Positions of at most `MAX_IMAGES` of so many images, spread evenly, int [M]."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_IMAGES)).astype(int))
