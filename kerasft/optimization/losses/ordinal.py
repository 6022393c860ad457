"""Ordinal loss: classes in an order, where a near miss is less wrong than a far one."""

import keras

from kerasft.optimization.losses.formula import Formula


def ordinal() -> Formula:
    """Squared earth mover's distance (Hou et al. 2016), which is the ranked probability score (Epstein 1969).

    sum_k (P_k - Q_k)^2 over the cumulative probabilities P and shares Q of the first k classes, k = 1 .. C - 1. It is a
    proper score. The classes stand in the order in which they are listed: by name, or as a data set lists them.
    """
    ops = keras.ops

    def single_label(shares: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        return ops.sum(ops.square(ops.cumsum(ops.softmax(logits) - shares, -1)), -1)

    return Formula(single_label)
