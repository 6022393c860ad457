"""Simple models to compare with. They are fitted on frozen features in a second, without any fine-tuning."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer
from kerasft.probes import boosted_trees

# Neighbours that are tried on validation, and how many there are where nothing can be tried.
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
DEFAULT_NEIGHBOURS = 10
# More multiplications take more than a second or two. Nearest neighbours are then left out.
MAX_NEIGHBOUR_MACS = 1e11


class Features(NamedTuple):
    """Standardised features of the frozen network, float32 [N, D] each, and the labels of the training images.

    Attributes:
        train, val, test: features by split.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T].
        outputs: C, or T.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    outputs: int


# From standardised features float32 [N, D] to logits float64 [N, C], or to values float64 [N, T].
Answer = Callable[[np.ndarray], np.ndarray]


class ReferenceModel(NamedTuple):
    """A fitted model.

    Attributes:
        answer: what it gives for features.
        bytes: what must be kept of it in addition to the backbone.
        seconds: to fit it, without the features.
    """

    answer: Answer
    bytes: int
    seconds: float


def fit(features: Features, scorer: Scorer, seed: int | None = None) -> dict[str, ReferenceModel]:
    """Fits the reference models of a task: `nearest_centroid` (single labels only), `nearest_neighbours`, and boosted trees.

    Args:
        features: of all splits.
        scorer: of the validation split.
        seed: of the trees; None for no trees. They are also left out above `boosted_trees.MAX_VALUES`.
    """
    found = {}
    if scorer.task == "single_label":
        bytes_ = 4 * features.outputs * features.train.shape[1]
        found["nearest_centroid"] = _timed(lambda: (nearest_centroid(features, scorer), bytes_))
    if can_compare(features, len(features.val) + len(features.test)):
        bytes_ = features.train.nbytes + features.labels.nbytes
        found["nearest_neighbours"] = _timed(lambda: (nearest_neighbours(features, scorer), bytes_))
    if seed is not None and features.train.size * features.outputs <= boosted_trees.MAX_VALUES:
        given = features.train, features.labels, features.val, features.outputs, scorer, seed
        found[boosted_trees.NAME] = _timed(lambda: boosted_trees.fit(*given))
    return found


def can_compare(features: Features, queries: int) -> bool:
    """Whether so many images can be compared with all training images in a second or two."""
    return queries * features.train.size <= MAX_NEIGHBOUR_MACS


def nearest_centroid(features: Features, scorer: Scorer) -> Answer:
    """Fits logits by the squared distance to the mean of each class.

    The distance is divided by its mean over the training images of the class, so that logits are of the order of a
    network's; then by the temperature of the validation split. A class without a training image gets the lowest logit.
    """
    counts = np.bincount(features.labels, minlength=features.outputs)
    sums = np.zeros((features.outputs, features.train.shape[1]))
    np.add.at(sums, features.labels, features.train)
    centroids = sums / np.maximum(counts, 1)[:, None]
    spread = np.square(features.train - centroids[features.labels]).mean()
    # One image a class is its own centroid. Then the distances between the classes are the measure.
    spread = spread or np.square(centroids - centroids.mean(0)).mean() or 1.0

    def logits(rows: np.ndarray) -> np.ndarray:
        # The squared norm of the image is the same for all classes, so it is left out.
        distances = np.square(centroids).sum(-1) - 2 * rows.astype(np.float64) @ centroids.T
        found = -distances / (2 * spread * np.sqrt(rows.shape[1]))
        found[:, counts == 0] = found.min(-1, keepdims=True)
        return found

    temperature = scorer.temperature(logits(features.val))
    return lambda rows: logits(rows) / temperature


def nearest_neighbours(features: Features, scorer: Scorer) -> Answer:
    """Fits outputs by the training images of the nearest features, in cosine distance.

    The number of neighbours is the one of the lowest loss on validation. Frequencies among the neighbours get one
    more vote, shared as the classes are in training, so that none of them is 0.
    """
    from scipy.special import logit
    from sklearn.neighbors import NearestNeighbors

    tried = [count for count in NEIGHBOURS if count <= len(features.train)]
    index = NearestNeighbors(n_neighbors=tried[-1], metric="cosine", algorithm="brute").fit(features.train)
    targets = features.labels
    if scorer.task == "single_label":
        targets = np.eye(features.outputs)[features.labels]
    prior = targets.mean(0).clip(1e-6, 1 - 1e-6) if scorer.task != "regression" else None

    def outputs(rows: np.ndarray, count: int) -> np.ndarray:
        found = targets[rows[:, :count]].astype(np.float64)
        if scorer.error == "pinball":
            return np.quantile(found, scorer.quantile, axis=1, method="inverted_cdf")
        if scorer.task == "regression":
            return found.mean(1)
        shares = (found.sum(1) + prior) / (count + 1)
        return np.log(shares) if scorer.task == "single_label" else logit(shares)

    chosen = min(DEFAULT_NEIGHBOURS, tried[-1])
    if len(features.val) >= MIN_VALIDATION_IMAGES:
        near = index.kneighbors(features.val, return_distance=False)
        chosen = min(tried, key=lambda count: scorer.loss(outputs(near, count)))
    return lambda rows: outputs(index.kneighbors(rows, return_distance=False), chosen)


def _timed(fitted: Callable[[], tuple[Answer, int]]) -> ReferenceModel:
    started = time.monotonic()
    return ReferenceModel(*fitted(), time.monotonic() - started)
