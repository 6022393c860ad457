"""Operations that are lookup tables: the new value of a pixel depends on its old value only.

To add one, add a function here that returns an Operation, and its name to `__all__`.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from kerasft.augment import lookup_tables, ranges
from kerasft.augment.fusion import Operation

__all__ = ["autocontrast", "equalize", "gamma", "invert", "posterize", "solarize"]


def posterize(bits: int = 4) -> Operation:
    """Keeps the highest bits of each value, as Pillow does: a random number between `bits` (1 to 8) and 8."""
    lowest = ranges.check_integer("bits", bits, 1, 8)

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        return lookup_tables.posterize(tf.cast(tf.floor(ranges.scale(u[:, 0], lowest, 9)), tf.int32))

    return Operation(1, table=table)


def solarize(threshold: int = 128) -> Operation:
    """Inverts values from a random threshold on, as Pillow does: between `threshold` (0 to 256) and 256."""
    lowest = ranges.check_integer("threshold", threshold, 0, 256)
    return Operation(1, table=lambda u, histogram: lookup_tables.solarize(ranges.scale(u[:, 0], lowest, 256)))


def gamma(amount: float = 0.3) -> Operation:
    """Raises values of 0..1 to a power between 1 / (1 + amount) and 1 + amount (amount at most 9), on a log scale."""
    limit = math.log1p(ranges.check_number("amount", amount, 9))
    return Operation(1, table=lambda u, histogram: lookup_tables.gamma(tf.exp(ranges.scale(u[:, 0], -limit, limit))))


def invert(probability: float = 0.5) -> Operation:
    """Turns v into 255 - v in this share of the images."""
    probability = ranges.check_number("probability", probability, 1)
    return Operation(1, table=lambda u, histogram: lookup_tables.solarize(tf.where(u[:, 0] < probability, 0.0, 256.0)))


def equalize(probability: float = 0.5) -> Operation:
    """Equalizes the histogram of each channel in this share of the images, as Pillow does."""
    return _from_histogram(probability, lookup_tables.equalize)


def autocontrast(probability: float = 0.5) -> Operation:
    """Scales each channel to 0..255 in this share of the images, as Pillow does without a cutoff."""
    return _from_histogram(probability, lookup_tables.autocontrast)


def _from_histogram(probability: float, make_table: Callable[[tf.Tensor], tf.Tensor]) -> Operation:
    """Returns the Operation whose table is made of the histogram, in this share of the images."""
    probability = ranges.check_number("probability", probability, 1)

    def is_applied(u: tf.Tensor) -> tf.Tensor:
        return u[:, 0] < probability

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        return lookup_tables.apply_where(is_applied(u), make_table(histogram))

    return Operation(1, table=table, histogram=is_applied)
