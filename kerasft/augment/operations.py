"""Operations that are small matrices of geometry or colour, with random parameters.

To add one, add a function here that returns an Operation, and its name to `__all__`.
"""

import math
from typing import Any

import tensorflow as tf

from kerasft.augment import ranges
from kerasft.augment.fusion import Operation

__all__ = [
    "brightness",
    "color",
    "contrast",
    "crop",
    "flip",
    "hue",
    "rotate",
    "saturation",
    "shear",
    "translate",
    "zoom",
]

# Weights of RGB in a grey value: ITU-R BT.601, as in Pillow's "L" mode.
LUMA = (0.299, 0.587, 0.114)


def flip(direction: str = "horizontal") -> Operation:
    """Flips half of the images: `horizontal`, `vertical` or `both` (each direction on its own)."""
    if direction not in ("horizontal", "vertical", "both"):
        raise ValueError("direction must be 'horizontal', 'vertical' or 'both'")
    enabled = (direction != "vertical", direction != "horizontal")

    def matrix(u: tf.Tensor) -> tf.Tensor:
        x, y = (tf.where(u[:, i] < 0.5, -1.0, 1.0) if on else tf.ones_like(u[:, i]) for i, on in enumerate(enabled))
        return affine(x, 0, 0, 0, y, 0)

    return Operation(2, geometry=matrix)


def crop(area: tuple = (0.35, 1.0), ratio: tuple = (0.75, 4 / 3)) -> Operation:
    """Crops a random box and resizes it (Szegedy et al. 2015).

    Args:
        area: smallest and largest share of the area of the image, in (0, 1].
        ratio: smallest and largest width/height, positive. A side is clipped at that of the image.
    """
    low, high = ranges.check_range("area", area, 0, 1)
    narrow, wide = ranges.check_range("ratio", ratio, 0, math.inf)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        share = ranges.scale(u[:, 0], low, high)
        aspect = tf.exp(ranges.scale(u[:, 1], math.log(narrow), math.log(wide)))
        width, height = tf.minimum(tf.sqrt(share * aspect), 1.0), tf.minimum(tf.sqrt(share / aspect), 1.0)
        x, y = ranges.scale(u[:, 2], -1, 1) * (1 - width), ranges.scale(u[:, 3], -1, 1) * (1 - height)
        return affine(width, 0, x, 0, height, y)

    return Operation(4, geometry=matrix)


def rotate(degrees: float = 15.0) -> Operation:
    """Rotates by up to `degrees` (at most 180) in either direction around the centre."""
    limit = math.radians(ranges.check_number("degrees", degrees, 180))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        angle = ranges.scale(u[:, 0], -limit, limit)
        return affine(tf.cos(angle), -tf.sin(angle), 0, tf.sin(angle), tf.cos(angle), 0)

    return Operation(1, geometry=matrix)


def zoom(amount: float = 0.2) -> Operation:
    """Magnifies by a factor between 1 - amount and 1 + amount (amount below 1)."""
    limit = ranges.check_number("amount", amount, 0.99)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        scale = 1 / ranges.scale(u[:, 0], 1 - limit, 1 + limit)
        return affine(scale, 0, 0, 0, scale, 0)

    return Operation(1, geometry=matrix)


def translate(fraction: float = 0.1) -> Operation:
    """Shifts by up to this fraction (at most 1) of the side, in x and in y."""
    limit = 2 * ranges.check_number("fraction", fraction, 1)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return affine(1, 0, ranges.scale(u[:, 0], -limit, limit), 0, 1, ranges.scale(u[:, 1], -limit, limit))

    return Operation(2, geometry=matrix)


def shear(degrees: float = 10.0) -> Operation:
    """Shears along x and along y by up to `degrees` (at most 80)."""
    limit = math.tan(math.radians(ranges.check_number("degrees", degrees, 80)))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return affine(1, ranges.scale(u[:, 0], -limit, limit), 0, ranges.scale(u[:, 1], -limit, limit), 1, 0)

    return Operation(2, geometry=matrix)


def brightness(amount: float = 0.2) -> Operation:
    """Multiplies by a factor between 1 - amount and 1 + amount (amount at most 1)."""
    limit = ranges.check_number("amount", amount, 1)
    return Operation(1, colour=lambda u, mean: blend(_factor(u, limit), tf.zeros([1, 3, 4])))


def contrast(amount: float = 0.2) -> Operation:
    """Blends with the mean grey of the image by a factor between 1 - amount and 1 + amount, as Pillow does."""
    limit = ranges.check_number("amount", amount, 1)
    return Operation(1, colour=lambda u, mean: blend(_factor(u, limit), mean_grey(mean)))


def saturation(amount: float = 0.2) -> Operation:
    """Blends with the grey version by a factor between 1 - amount and 1 + amount, as Pillow does."""
    limit = ranges.check_number("amount", amount, 1)
    return Operation(1, colour=lambda u, mean: blend(_factor(u, limit), own_grey()))


def hue(amount: float = 0.05) -> Operation:
    """Rotates the colours around the grey axis by up to `amount` of the circle (at most 0.5).

    A rotation in RGB keeps the sum of the channels. A hue shift in HSV differs slightly.
    """
    limit = 2 * math.pi * ranges.check_number("amount", amount, 0.5)

    def matrix(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        angle = ranges.scale(u[:, 0], -limit, limit)
        cos, sin = tf.cos(angle), tf.sin(angle) / math.sqrt(3)
        same, third = cos + (1 - cos) / 3, (1 - cos) / 3
        rows = [same, third - sin, third + sin, third + sin, same, third - sin, third - sin, third + sin, same]
        turn = tf.reshape(tf.stack(rows, 1), [-1, 3, 3])
        return tf.pad(turn, [[0, 0], [0, 0], [0, 1]])

    return Operation(1, colour=matrix)


def color(amount: float = 0.2) -> tuple[Operation, ...]:
    """Applies `brightness`, `contrast` and `saturation` of this amount, in this order."""
    return brightness(amount), contrast(amount), saturation(amount)


def affine(*rows: Any) -> tf.Tensor:
    """Returns float32 [N, 3, 3] from the six numbers of the two upper rows, each a scalar or [N]."""
    batch = next(tf.shape(value) for value in rows if tf.is_tensor(value))
    columns = [tf.broadcast_to(tf.cast(value, tf.float32), batch) for value in (*rows, 0, 0, 1)]
    return tf.reshape(tf.stack(columns, -1), [-1, 3, 3])


def blend(factor: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns float32 [N, 3, 4]: f * identity + (1 - f) * target, for f float32 [N] and target [N or 1, 3, 4]."""
    factor = factor[:, None, None]
    return factor * tf.eye(3, 4) + (1 - factor) * target


def mean_grey(mean: tf.Tensor) -> tf.Tensor:
    """Returns float32 [N, 3, 4] that turns every colour into the grey of the mean RGB, float32 [N, 3]."""
    grey = tf.reduce_sum(mean * LUMA, axis=1)[:, None, None]
    return tf.pad(tf.tile(grey, [1, 3, 1]), [[0, 0], [0, 0], [3, 0]])


def own_grey() -> tf.Tensor:
    """Returns float32 [1, 3, 4] that turns every colour into its own grey."""
    return tf.constant([[[*LUMA, 0.0]] * 3])


def _factor(u: tf.Tensor, limit: float) -> tf.Tensor:
    return ranges.scale(u[:, 0], 1 - limit, 1 + limit)
