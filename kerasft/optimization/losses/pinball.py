"""Pinball loss: a quantile of the target instead of its mean."""

import keras

from kerasft.optimization.losses.formula import Formula, check_number


def pinball(quantile: float = 0.5) -> Formula:
    """Quantile regression (Koenker & Bassett 1978): q r where the residual r = target - value is positive, else (q - 1) r.

    Its mean is lowest where a share q of the targets lies below the values. Validation judges by the same loss. Values
    are in deviations of the training targets; the mean over several targets is taken.

    Args:
        quantile: q, in (0, 1); 0.5 is the median, and half of the absolute error.
    """
    check_number("quantile", quantile, "in (0, 1)", lambda value: 0 < value < 1)
    ops = keras.ops

    def regression(targets: keras.KerasTensor, values: keras.KerasTensor) -> keras.KerasTensor:
        residual = targets - values
        return ops.mean(ops.maximum(quantile * residual, (quantile - 1) * residual), -1)

    return Formula(regression=regression, error="pinball", quantile=quantile)
