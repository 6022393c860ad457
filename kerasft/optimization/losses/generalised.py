"""Generalised cross-entropy, for wrong labels: between cross-entropy and the absolute error."""

import keras

from kerasft.optimization.losses.formula import Formula, check_number, of_log_probabilities


def generalised(q: float = 0.7) -> Formula:
    """Generalised cross-entropy (Zhang & Sabuncu 2018): (1 - p^q) / q, for p of the label's class.

    sum_c y_c (1 - p_c^q) / q for shares y; for several labels the mean over them. It goes to cross-entropy as q goes to
    0, and is the absolute error (halved) at 1. An example whose label has no probability has no gradient: that is how
    wrong labels are ignored.

    Args:
        q: in (0, 1].
    """
    check_number("q", q, "in (0, 1]", lambda value: 0 < value <= 1)

    def score(shares: keras.KerasTensor, log_p: keras.KerasTensor) -> keras.KerasTensor:
        # expm1 keeps what is left of the loss where p is nearly 1.
        return -keras.ops.sum(shares * keras.ops.expm1(q * log_p), -1) / q

    return of_log_probabilities(score)
