"""Predictions over a split, and the figures computed from them."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

Predictor = Callable[[Iterable], np.ndarray]


def predictor(model: keras.Model) -> Predictor:
    """A function from batches of pictures (float32 [B, S, S, 3]) to all outputs in order, float32 [N, ...].

    It is traced once and sees the weights as they are at each call.
    """
    shape = [None, *model.inputs[0].shape[1:]]
    graph = tf.function(lambda images: model(images, training=False), input_signature=[tf.TensorSpec(shape)])
    return lambda batches: np.concatenate([graph(images).numpy() for images in batches]).astype(np.float32)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64 [N, C]."""
    from scipy.special import softmax

    return softmax(logits.astype(np.float64), axis=-1)


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log likelihood of each example in nats, float64 [N]: logits float [N, C], labels int [N]."""
    from scipy.special import log_softmax

    return -log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of `losses`."""
    return float(losses(logits, labels).mean())


def most_cautious(candidates: list[np.ndarray]) -> int:
    """The one-standard-error rule (Breiman et al. 1984, section 3.4.3) on paired losses.

    Args:
        candidates: float64 [N] each, losses of the same examples, the most cautious candidate first.

    Returns:
        The first place whose mean loss lies within one standard error of the best one's, the error being that
        of their difference example by example.
    """
    best = min(candidates, key=np.mean)
    for place, found in enumerate(candidates):
        gap = found - best
        if gap.mean() <= gap.std(ddof=1) / np.sqrt(len(gap)):
            return place
    return len(candidates) - 1


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number T in [1/8, 8] by which logits [N, C] are divided for the lowest log loss (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    limit = np.log(8)
    found = minimize_scalar(lambda t: log_loss(logits / np.exp(t), labels), bounds=(-limit, limit), method="bounded")
    return float(np.exp(found.x))


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows of [N, C] whose greatest score is the label's."""
    return float((scores.argmax(-1) == labels).mean())


def report(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict:
    """Accuracy, log loss, precision, recall and F1 by class, and the confusion matrix.

    Args:
        logits: float32 [N, C].
        labels: int32 [N].
        classes: C names.

    Returns:
        A dict for `metrics.json`; `confusion_matrix[i][j]` counts pictures of class i taken for class j.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    # From the probabilities as they are stored and served: logits may differ where those, in float32, do not.
    scores = probabilities(logits).astype(np.float32)
    every, guess = np.arange(len(classes)), scores.argmax(-1)
    table = precision_recall_fscore_support(labels, guess, labels=every, zero_division=0.0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
        for name, p, r, f, n in zip(classes, *table)
    }
    return {
        "accuracy": accuracy(scores, labels),
        "loss": log_loss(logits, labels),
        "n": len(labels),
        "per_class": per_class,
        "confusion_matrix": confusion_matrix(labels, guess, labels=every).tolist(),
    }
