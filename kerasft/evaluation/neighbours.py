"""The nearest training images by the cosine of their features."""

import numpy as np

from kerasft.evaluation.novelty import CHUNK, unit_length


def nearest(training: np.ndarray, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest training images.

    Args:
        training: float [P, D], pooled features.
        features: float [N, D].
        count: of neighbours, K; fewer if P is smaller.

    Returns:
        Rows of `training`, int [N, K], the nearest first, and their cosine similarities in [-1, 1], float64 [N, K].
    """
    points, count = unit_length(training).T, min(count, len(training))
    rows, similarities = [], []
    for start in range(0, len(features), CHUNK):
        cosines = unit_length(features[start : start + CHUNK]) @ points
        rows.append(np.argsort(-cosines, axis=-1, kind="stable")[:, :count])
        similarities.append(np.take_along_axis(cosines, rows[-1], -1))
    return np.concatenate(rows), np.concatenate(similarities)
