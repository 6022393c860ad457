"""Errors of values, for regression: squared, absolute, and Huber's between them."""

import keras

from kerasft.optimization.losses.formula import Formula, check_number


def mse() -> Formula:
    """Mean squared error, in deviations of the training targets."""
    return Formula(regression=keras.losses.MeanSquaredError().call)


def mae() -> Formula:
    """Mean absolute error, in deviations of the training targets."""
    return Formula(regression=keras.losses.MeanAbsoluteError().call, error="absolute")


def huber(delta: float = 1.0) -> Formula:
    """Half the squared error up to delta, linear beyond (Huber 1964).

    Args:
        delta: above 0, in deviations of the training targets.
    """
    check_number("delta", delta, "above 0", lambda value: value > 0)
    return Formula(regression=keras.losses.Huber(delta).call, error="huber", delta=delta)
