"""Operations that are tables: each value of a channel becomes another, whatever is around it.

Adding one is adding a function here that gives an Operation, and its name to `__all__`.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from kerasft.augment import lookup_tables, ranges
from kerasft.augment.fusion import Operation

__all__ = ["autocontrast", "equalize", "gamma", "invert", "posterize", "solarize"]


def posterize(bits: int = 4) -> Operation:
    """Keeps the highest bits of each value, between `bits` (1 to 8) and 8 of them, as Pillow does."""
    least = ranges.whole("bits", bits, 1, 8)

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        return lookup_tables.posterized(tf.cast(tf.floor(ranges.between(u[:, 0], least, 9)), tf.int32))

    return Operation(1, table=table)


def solarize(threshold: int = 128) -> Operation:
    """Inverts what is at or above a threshold between `threshold` (0 to 256) and 256, as Pillow does."""
    least = ranges.whole("threshold", threshold, 0, 256)
    return Operation(1, table=lambda u, histogram: lookup_tables.solarized(ranges.between(u[:, 0], least, 256)))


def gamma(amount: float = 0.3) -> Operation:
    """Raises values of 0..1 to a power between 1 / (1 + amount) and 1 + amount (amount at most 9), on a log scale."""
    limit = math.log1p(ranges.amount("amount", amount, 9))
    return Operation(
        1, table=lambda u, histogram: lookup_tables.powered(tf.exp(ranges.between(u[:, 0], -limit, limit)))
    )


def invert(probability: float = 0.5) -> Operation:
    """Turns v into 255 - v in this share of the pictures."""
    share = ranges.amount("probability", probability, 1)
    return Operation(1, table=lambda u, histogram: lookup_tables.solarized(tf.where(u[:, 0] < share, 0.0, 256.0)))


def equalize(probability: float = 0.5) -> Operation:
    """Makes all values of a channel about equally frequent, in this share of the pictures, as Pillow does."""
    return _counted(probability, lookup_tables.equalized)


def autocontrast(probability: float = 0.5) -> Operation:
    """Spreads each channel over 0 to 255, in this share of the pictures, as Pillow does without a cutoff."""
    return _counted(probability, lookup_tables.stretched)


def _counted(probability: float, made: Callable[[tf.Tensor], tf.Tensor]) -> Operation:
    share = ranges.amount("probability", probability, 1)

    def drawn(u: tf.Tensor) -> tf.Tensor:
        return u[:, 0] < share

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        return lookup_tables.where(drawn(u), made(histogram))

    return Operation(1, table=table, histogram=drawn)
