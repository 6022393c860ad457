"""The operations that `--augment` may name: each a small matrix drawn from uniform numbers.

Adding one is adding a function here that gives a Geometric or a Colour, and its name to `__all__`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

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

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's "L" mode


class Geometric(NamedTuple):
    """Draws from [0, 1) float32 [N, draws] to float32 [N, 3, 3], output to input, in units of half the picture."""

    draws: int
    matrix: Callable[[tf.Tensor], tf.Tensor]


class Colour(NamedTuple):
    """Draws float32 [N, draws] and mean RGB float32 [N, 3] to float32 [N, 3, 4] on RGB in 0..255."""

    draws: int
    matrix: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def flip(direction: str = "horizontal") -> Geometric:
    """Mirrors half of the pictures: `horizontal`, `vertical` or `both` (each on its own)."""
    if direction not in ("horizontal", "vertical", "both"):
        raise ValueError("direction must be 'horizontal', 'vertical' or 'both'")
    sides = (direction != "vertical", direction != "horizontal")

    def matrix(u: tf.Tensor) -> tf.Tensor:
        x, y = (tf.where(u[:, i] < 0.5, -1.0, 1.0) if on else tf.ones_like(u[:, i]) for i, on in enumerate(sides))
        return affine(x, 0, 0, 0, y, 0)

    return Geometric(2, matrix)


def crop(area: tuple = (0.35, 1.0), ratio: tuple = (0.75, 4 / 3)) -> Geometric:
    """Random resized crop: a part of this share of the area and this width/height ratio (Szegedy et al. 2015).

    Args:
        area: least and greatest share of the picture's area, in (0, 1].
        ratio: least and greatest width/height, positive; a side is cut at the picture's own.
    """
    low, high = _pair("area", area, 0, 1)
    narrow, wide = _pair("ratio", ratio, 0, math.inf)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        share = _between(u[:, 0], low, high)
        aspect = tf.exp(_between(u[:, 1], math.log(narrow), math.log(wide)))
        width, height = tf.minimum(tf.sqrt(share * aspect), 1.0), tf.minimum(tf.sqrt(share / aspect), 1.0)
        x, y = _between(u[:, 2], -1, 1) * (1 - width), _between(u[:, 3], -1, 1) * (1 - height)
        return affine(width, 0, x, 0, height, y)

    return Geometric(4, matrix)


def rotate(degrees: float = 15.0) -> Geometric:
    """Turns by up to `degrees` (at most 180) either way around the centre."""
    limit = math.radians(_amount("degrees", degrees, 180))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        angle = _between(u[:, 0], -limit, limit)
        return affine(tf.cos(angle), -tf.sin(angle), 0, tf.sin(angle), tf.cos(angle), 0)

    return Geometric(1, matrix)


def zoom(amount: float = 0.2) -> Geometric:
    """Magnifies by a factor between 1 - amount and 1 + amount (amount below 1)."""
    limit = _amount("amount", amount, 0.99)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        scale = 1 / _between(u[:, 0], 1 - limit, 1 + limit)
        return affine(scale, 0, 0, 0, scale, 0)

    return Geometric(1, matrix)


def translate(fraction: float = 0.1) -> Geometric:
    """Shifts by up to this fraction (at most 1) of the side, in x and in y."""
    limit = 2 * _amount("fraction", fraction, 1)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return affine(1, 0, _between(u[:, 0], -limit, limit), 0, 1, _between(u[:, 1], -limit, limit))

    return Geometric(2, matrix)


def shear(degrees: float = 10.0) -> Geometric:
    """Slants along x and along y by up to `degrees` (below 90)."""
    limit = math.tan(math.radians(_amount("degrees", degrees, 80)))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return affine(1, _between(u[:, 0], -limit, limit), 0, _between(u[:, 1], -limit, limit), 1, 0)

    return Geometric(2, matrix)


def brightness(amount: float = 0.2) -> Colour:
    """Multiplies by a factor between 1 - amount and 1 + amount (amount at most 1)."""
    limit = _amount("amount", amount, 1)
    return Colour(1, lambda u, mean: _blend(u[:, 0], limit, tf.zeros([3, 4])))


def contrast(amount: float = 0.2) -> Colour:
    """Blends with the picture's mean grey by a factor between 1 - amount and 1 + amount, as Pillow does."""
    limit = _amount("amount", amount, 1)

    def matrix(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        grey = tf.reduce_sum(mean * _LUMA, axis=1)[:, None, None]
        return _blend(u[:, 0], limit, tf.pad(tf.tile(grey, [1, 3, 1]), [[0, 0], [0, 0], [3, 0]]))

    return Colour(1, matrix)


def saturation(amount: float = 0.2) -> Colour:
    """Blends with the grey version by a factor between 1 - amount and 1 + amount, as Pillow does."""
    limit = _amount("amount", amount, 1)
    return Colour(1, lambda u, mean: _blend(u[:, 0], limit, tf.constant([[*_LUMA, 0.0]] * 3)))


def hue(amount: float = 0.05) -> Colour:
    """Turns the colours around the grey axis by up to `amount` of the circle (at most 0.5).

    A rotation in RGB keeps the sum of the channels; HSV-based hue shifts differ slightly.
    """
    limit = 2 * math.pi * _amount("amount", amount, 0.5)

    def matrix(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        angle = _between(u[:, 0], -limit, limit)
        cos, sin = tf.cos(angle), tf.sin(angle) / math.sqrt(3)
        same, third = cos + (1 - cos) / 3, (1 - cos) / 3
        rows = [same, third - sin, third + sin, third + sin, same, third - sin, third - sin, third + sin, same]
        turn = tf.reshape(tf.stack(rows, 1), [-1, 3, 3])
        return tf.pad(turn, [[0, 0], [0, 0], [0, 1]])

    return Colour(1, matrix)


def color(amount: float = 0.2) -> tuple[Colour, ...]:
    """`brightness`, `contrast` and `saturation` of this amount, one after the other."""
    return brightness(amount), contrast(amount), saturation(amount)


def affine(*rows: Any) -> tf.Tensor:
    """float32 [N, 3, 3] from the six numbers of the two upper rows, each a scalar or [N]."""
    batch = next(tf.shape(value) for value in rows if tf.is_tensor(value))
    columns = [tf.broadcast_to(tf.cast(value, tf.float32), batch) for value in (*rows, 0, 0, 1)]
    return tf.reshape(tf.stack(columns, -1), [-1, 3, 3])


def _blend(u: tf.Tensor, limit: float, target: tf.Tensor) -> tf.Tensor:
    """float32 [N, 3, 4]: f * identity + (1 - f) * target, f drawn between 1 - limit and 1 + limit."""
    factor = _between(u, 1 - limit, 1 + limit)[:, None, None]
    return factor * tf.eye(3, 4) + (1 - factor) * target


def _between(u: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * u


def _amount(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a number in [0, {most}]")
    return float(value)


def _pair(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    rule = f"{name} must be a pair of rising numbers in ({least}, {most}]"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(rule)
    low, high = value
    if (
        not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
        or not least < low <= high <= most
    ):
        raise ValueError(rule)
    return float(low), float(high)
