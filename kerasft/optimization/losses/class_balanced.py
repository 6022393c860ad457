"""Class-balanced loss: rare classes count more, by the effective number of their examples."""

import keras
import numpy as np

from kerasft.optimization.losses.formula import (
    Formula,
    check_label_smoothing,
    check_number,
    complement,
    of_log_probabilities,
    smoothed,
)


def class_balanced(
    beta: float = 0.999,
    gamma: float = 0.0,
    label_smoothing: float = 0.0,
    *,
    counts: np.ndarray | None,
    examples: int,
) -> Formula:
    """Class-balanced cross-entropy or focal loss (Cui et al. 2019): weighted by the inverse effective number of examples.

    A class of n training examples weighs (1 - beta) / (1 - beta^n), and the weights of the C classes sum to C. For
    several labels each of them is a problem of two classes, the label and its absence, whose weights sum to 2. Classes
    without examples do not count. The weight of an example with mixed labels is the mean of theirs by their shares.

    Args:
        beta: in [0, 1): 0 weighs all classes alike, 0.9999 nearly by inverse frequency.
        gamma: of the focal factor (1 - p)^gamma; 0 for none.
        label_smoothing: as in `cross_entropy`. Weights are those of the label, not of what is smoothed.
        counts: training examples of each class, int [C]; None where only the arguments are checked.
        examples: training examples in all.
    """
    check_number("beta", beta, "in [0, 1)", lambda value: 0 <= value < 1)
    check_number("gamma", gamma, "in [0, 10]", lambda value: 0 <= value <= 10)
    check_label_smoothing(label_smoothing)
    counts, examples = (np.ones(1), 2) if counts is None else (np.asarray(counts), examples)
    by_class = _weights(beta, counts)
    by_label = _weights(beta, np.stack([counts, examples - counts], -1))

    def unweighted(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        shares = smoothed(shares, label_smoothing)
        factor = complement(log_p) ** gamma if gamma else 1.0
        return -keras.ops.sum(shares * factor * log_p, -1)

    def one_of_many(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.sum(shares * by_class, -1) * unweighted(shares, log_p)

    def each_label(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.sum(shares * by_label, -1) * unweighted(shares, log_p)

    single_label = of_log_probabilities(one_of_many).single_label
    return Formula(single_label, of_log_probabilities(each_label).multi_label)


def _weights(beta: float, counts: np.ndarray) -> np.ndarray:
    """Weights of the classes [..., K] that sum to the number of those that have examples, float32; 0 for the others."""
    occurs = counts > 0
    effective = -np.expm1(np.maximum(counts, 1) * np.log(beta)) if beta else np.ones(counts.shape)
    weights = occurs / effective
    return (weights * occurs.sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)).astype(np.float32)
