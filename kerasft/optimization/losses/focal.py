"""Focal loss: easy examples count less."""

import keras

from kerasft.optimization.losses.formula import Formula, check_number, complement, of_log_probabilities


def focal(gamma: float = 2.0) -> Formula:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - p)^gamma, so easy examples count less. No class weights.

    -sum_c q_c (1 - p_c)^gamma log p_c for shares q; for several labels the mean over them.

    Args:
        gamma: in [0, 10]; 0 is cross-entropy.
    """
    check_number("gamma", gamma, "in [0, 10]", lambda value: 0 <= value <= 10)

    def score(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        return -keras.ops.sum(shares * complement(log_p) ** gamma * log_p, -1)

    return of_log_probabilities(score)
