"""Symmetric cross-entropy, for wrong labels: its reverse half bounds what one of them can do."""

import math

import keras

from kerasft.optimization.losses.formula import Formula, check_number, of_log_probabilities


def symmetric(alpha: float = 0.1, beta: float = 1.0, floor: float = -4.0) -> Formula:
    """Symmetric cross-entropy (Wang et al. 2019): alpha times cross-entropy and beta times its reverse.

    -alpha sum_c q_c log p_c - beta sum_c p_c log q_c for shares q, with log 0 = floor; for several labels the mean over
    them. alpha = 0.1 and beta = 1 are those of the paper for ten classes with wrong labels; of many classes it learns
    faster with a larger alpha.

    Args:
        alpha: above 0.
        beta: at least 0.
        floor: below 0: the logarithm of a share of 0, and of every smaller one than its exponential.
    """
    check_number("alpha", alpha, "in (0, 100]", lambda value: 0 < value <= 100)
    check_number("beta", beta, "in [0, 100]", lambda value: 0 <= value <= 100)
    check_number("floor", floor, "in [-20, 0)", lambda value: -20 <= value < 0)
    ops = keras.ops

    def score(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        reverse = -ops.sum(ops.exp(log_p) * ops.log(ops.maximum(shares, math.exp(floor))), -1)
        return beta * reverse - alpha * ops.sum(shares * log_p, -1)

    return of_log_probabilities(score)
