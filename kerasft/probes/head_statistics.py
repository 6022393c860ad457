"""Statistics computed from the data, not trained: those of the features, and the best constant answer."""

from collections.abc import Sequence

import keras
import numpy as np


def set_statistics(layer: keras.layers.Normalization, values: np.ndarray, widths: Sequence[int] = ()) -> None:
    """Gives a Normalization layer the mean and variance of float [N, D] values.

    A feature that hardly varies (a dead one, say) gets a hundredth of the mean variance of its depth: divided by its
    own, it would drown the others as soon as fine-tuning wakes it up.

    Args:
        widths: D of each depth, where the values are those of several depths side by side.
    """
    mean, variance = statistics(values, widths)
    if layer.invert:
        variance = values.var(0, dtype=np.float64)
    layer.adapt_mean.assign(mean.reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(variance.reshape(layer.adapt_variance.shape))
    layer.finalize_state()


def statistics(values: np.ndarray, widths: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance float64 [D] by which `set_statistics` standardises; arguments as there."""
    mean, variance = values.mean(0, dtype=np.float64), values.var(0, dtype=np.float64)
    depths = np.split(variance, np.cumsum(widths or [len(variance)])[:-1])
    return mean, np.concatenate([np.maximum(depth, max(0.01 * depth.mean(), 1e-12)) for depth in depths])


def set_prior(layer: keras.layers.Dense, labels: np.ndarray, task: str) -> None:
    """Sets the bias of the last layer to what is known without looking (Lin et al. 2017, section 4.1).

    The log frequencies of int32 [N] labels, or the log odds of float32 [N, C] ones; regression begins at the mean
    anyhow.
    """
    if task == "single_label":
        layer.bias.assign(np.log(np.maximum(np.bincount(labels, minlength=layer.units), 0.5) / len(labels)))
    elif task == "multi_label":
        layer.bias.assign(log_odds(labels))


def constant(labels: np.ndarray, outputs: int, task: str, weights: np.ndarray | None = None) -> np.ndarray:
    """What is best answered without looking, float64 [C]: log frequencies, log odds, or means.

    Args:
        labels, weights: as in `solve`.
        outputs: C.
        task: as in `solve`.
    """
    if task == "single_label":
        counts = np.bincount(labels, weights, minlength=outputs)
        return np.log(np.maximum(counts, 0.5) / counts.sum())
    if task == "multi_label":
        return log_odds(labels, weights)
    return np.average(labels.astype(np.float64), 0, weights)


def log_odds(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Of [N, C] zeros and ones, half an example added to both sides."""
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    present = weights @ labels
    return np.log((present + 0.5) / (weights.sum() - present + 0.5))
