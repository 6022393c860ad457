"""Brier score: squared error of the probabilities."""

import keras

from kerasft.optimization.losses.formula import Formula


def brier() -> Formula:
    """Brier score (Brier 1950): sum_c (p_c - q_c)^2 for shares q; for several labels the mean of (p - q)^2.

    A proper score that is bounded, so a wrong label weighs less than in cross-entropy. Where a label's class has no
    probability, there is no gradient: it suits a head that starts solved, or from zeros.
    """
    ops = keras.ops

    def single_label(shares: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        return ops.sum(ops.square(ops.softmax(logits) - shares), -1)

    def multi_label(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        return ops.mean(ops.square(ops.sigmoid(logits) - labels), -1)

    return Formula(single_label, multi_label)
