"""The form of our losses: a function for each task that they suit, of labels as shares of classes."""

from collections.abc import Callable
from typing import NamedTuple

import keras

# A function of labels and outputs, [N, K] each, to losses, [N].
Function = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


class Formula(NamedTuple):
    """A loss with its arguments; None for a task that it does not suit.

    Attributes:
        single_label: of shares of classes, float32 [N, C] that sum to 1 (one-hot, or mixed by `mixup` and `cutmix`), and
            logits, float32 [N, C].
        multi_label: of labels in [0, 1], float32 [N, C], and logits.
        regression: of targets and values, float32 [N, D], both divided by the deviation of the training targets.
        error: how validation judges regression under this loss (see `scoring.Scorer`).
        quantile: that regression predicts, under the error `pinball`.
        delta: where the error `huber` becomes linear.
    """

    single_label: Function | None = None
    multi_label: Function | None = None
    regression: Function | None = None
    error: str = "squared"
    quantile: float = 0.5
    delta: float = 1.0


def of_log_probabilities(score: Function) -> Formula:
    """The loss of a distribution over classes, and for several labels its mean over them, each against its absence.

    Logarithms are those of `log_softmax` and `log_sigmoid`, so logits of +-100 lose nothing.

    Args:
        score: of shares of classes and log probabilities, [..., K] each, to losses, [...].
    """
    ops = keras.ops

    def single_label(shares: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        return score(shares, ops.log_softmax(logits))

    def multi_label(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        logs = ops.stack([ops.log_sigmoid(logits), ops.log_sigmoid(-logits)], -1)
        return ops.mean(score(ops.stack([labels, 1 - labels], -1), logs), -1)

    return Formula(single_label, multi_label)


def smoothed(shares: keras.KerasTensor, label_smoothing: float) -> keras.KerasTensor:
    """Shares of classes [..., K] with so much of them spread evenly over all (Szegedy et al. 2016, section 7)."""
    return (1 - label_smoothing) * shares + label_smoothing / shares.shape[-1]


def complement(log_p: keras.KerasTensor) -> keras.KerasTensor:
    """1 - p of log probabilities, exact where p is nearly 1; at least 1e-12, so that every power has a gradient."""
    return keras.ops.maximum(-keras.ops.expm1(log_p), 1e-12)


def check_number(name: str, value: object, rule: str, holds: Callable[[float], bool]) -> None:
    """Raises ValueError where an argument is no number, or one for which the rule (`in [0, 1)`) does not hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        raise ValueError(f"{name} must be a number {rule}")


def check_label_smoothing(value: object) -> None:
    """Raises ValueError where it is no number in [0, 1)."""
    check_number("label_smoothing", value, "in [0, 1)", lambda number: 0 <= number < 1)
