"""Novelty: how unlike the training images an image is, from what a network has computed of it anyhow.

The score is fitted on the training images, its threshold on the validation images. No image of an unknown kind is needed.
"""

from typing import NamedTuple

import numpy as np

# Numbers that `distance` keeps of the training images, at most: 16 MB in the export.
MAX_NUMBERS = 4_000_000

# Rows of features that are compared at once.
CHUNK = 1024

# A feature vector of zeros has no direction.
MIN_LENGTH = 1e-12


class Novelty(NamedTuple):
    """A score for images of an unknown kind, and from where on it counts.

    Attributes:
        method: `energy` or `distance`.
        keep: the share of the validation images that are known.
        threshold: an image is known if its novelty is at most this.
        references: for `distance`: float32 [P, D], features of training images, each of length 1; None for `energy`.
        kept: the share of the validation images up to the threshold. Of few images it is more than `keep`.
    """

    method: str
    keep: float
    threshold: float
    references: np.ndarray | None = None
    kept: float = np.nan

    def score(self, features: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The novelty of images, float64 [N]; higher is stranger.

        Args:
            features: float [N, D], pooled; not read under `energy`.
            outputs: float [N, C], logits; not read under `distance`.
        """
        return energy(outputs) if self.references is None else distance(self.references, features)


def energy(outputs: np.ndarray) -> np.ndarray:
    """The energy at temperature 1, -logsumexp of the logits [N, C] (Liu et al. 2020, equation 4); float64 [N]."""
    from scipy.special import logsumexp

    return -logsumexp(outputs.astype(np.float64), axis=-1)


def unit_length(features: np.ndarray) -> np.ndarray:
    """Features [N, D], each divided by its length; float64. A vector of zeros stays one."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), MIN_LENGTH)


def distance(references: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The cosine distance to the nearest training image, in [0, 2] (Sun et al. 2022, with k = 1); float64 [N].

    Args:
        references: float [P, D], each of length 1.
        features: float [N, D], pooled.
    """
    points, parts = references.astype(np.float64).T, range(0, len(features), CHUNK)
    nearest = [(unit_length(features[start : start + CHUNK]) @ points).max(-1) for start in parts]
    return 1 - np.concatenate(nearest)


def fit_threshold(scores: np.ndarray, keep: float) -> float:
    """The smallest score up to which at least a share of the scores lies.

    Args:
        scores: float [N], of the validation images.
        keep: the share, in (0, 1).
    """
    return float(np.quantile(scores, keep, method="inverted_cdf"))


def spread(count: int, width: int) -> np.ndarray:
    """Positions of the training images that `distance` keeps, int [P]: all, or as many as `MAX_NUMBERS` allows, evenly spread.

    Args:
        count: of the training images.
        width: of their features, D.
    """
    kept = min(count, max(MAX_NUMBERS // width, 1))
    return np.arange(kept) * count // kept
