"""Poly-1: cross-entropy with the first coefficient of its Taylor series raised."""

import keras

from kerasft.optimization.losses.formula import (
    Formula,
    check_label_smoothing,
    check_number,
    complement,
    of_log_probabilities,
    smoothed,
)


def poly(epsilon: float = 1.0, label_smoothing: float = 0.0) -> Formula:
    """Poly-1 cross-entropy (Leng et al. 2022): -log p + epsilon (1 - p), for p of the label's class.

    sum_c q_c (-log p_c + epsilon (1 - p_c)) for shares q; for several labels the mean over them.

    Args:
        epsilon: at least -1, for the loss must fall as p rises; 0 is cross-entropy.
        label_smoothing: as in `cross_entropy`.
    """
    check_number("epsilon", epsilon, "in [-1, 100]", lambda value: -1 <= value <= 100)
    check_label_smoothing(label_smoothing)

    def score(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.sum(smoothed(shares, label_smoothing) * (epsilon * complement(log_p) - log_p), -1)

    return of_log_probabilities(score)
