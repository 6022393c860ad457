"""Fused augmentation: whatever the recipe, one resample and one colour matrix for each picture.

Geometric operations are 3x3 matrices and colour operations 3x4 matrices; each Spec such as
`crop(area=(0.35, 1)) | flip | rotate(15) | color(0.2)` is composed from left to right before a pixel is touched.
All randomness comes in from outside as uniform numbers, so a picture depends on (seed, epoch, example) only.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerasft import spec as specs
from kerasft.errors import UserError
from kerasft.spec import Spec

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
        return _affine(x, 0, 0, 0, y, 0)

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
        return _affine(width, 0, x, 0, height, y)

    return Geometric(4, matrix)


def rotate(degrees: float = 15.0) -> Geometric:
    """Turns by up to `degrees` (at most 180) either way around the centre."""
    limit = math.radians(_amount("degrees", degrees, 180))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        angle = _between(u[:, 0], -limit, limit)
        return _affine(tf.cos(angle), -tf.sin(angle), 0, tf.sin(angle), tf.cos(angle), 0)

    return Geometric(1, matrix)


def zoom(amount: float = 0.2) -> Geometric:
    """Magnifies by a factor between 1 - amount and 1 + amount (amount below 1)."""
    limit = _amount("amount", amount, 0.99)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        scale = 1 / _between(u[:, 0], 1 - limit, 1 + limit)
        return _affine(scale, 0, 0, 0, scale, 0)

    return Geometric(1, matrix)


def translate(fraction: float = 0.1) -> Geometric:
    """Shifts by up to this fraction (at most 1) of the side, in x and in y."""
    limit = 2 * _amount("fraction", fraction, 1)

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return _affine(1, 0, _between(u[:, 0], -limit, limit), 0, 1, _between(u[:, 1], -limit, limit))

    return Geometric(2, matrix)


def shear(degrees: float = 10.0) -> Geometric:
    """Slants along x and along y by up to `degrees` (below 90)."""
    limit = math.tan(math.radians(_amount("degrees", degrees, 80)))

    def matrix(u: tf.Tensor) -> tf.Tensor:
        return _affine(1, _between(u[:, 0], -limit, limit), 0, _between(u[:, 1], -limit, limit), 1, 0)

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


class Augment(keras.layers.Layer):
    """Applies composed operations to a batch: one resample, then one colour matrix.

    Colours are clipped to 0..255 once, at the end, not after each operation; what the resample needs from
    outside the picture is mirrored.

    Args:
        operations: what `parse` gives.
        layers: Keras layers to run afterwards; they draw their own random numbers.
    """

    def __init__(self, operations: tuple = (), layers: tuple = (), **kwargs: Any):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.geometric = tuple(op for op in operations if isinstance(op, Geometric))
        self.colour = tuple(op for op in operations if isinstance(op, Colour))
        self.layers = tuple(layers)
        self.draws = sum(op.draws for op in (*self.geometric, *self.colour))

    @property
    def stateless(self) -> bool:
        """Whether all of the randomness comes from the draws."""
        return not self.layers

    def call(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Augments a batch.

        Args:
            images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
            draws: float32 [N, self.draws], uniform in [0, 1).

        Returns:
            float32 [N, S, S, 3] in 0..255.
        """
        images = tf.cast(images, tf.float32)
        parts = tf.split(draws, [op.draws for op in (*self.geometric, *self.colour)], axis=1) if self.draws else []
        if self.geometric:
            images = _resample(images, _product([op.matrix(u) for op, u in zip(self.geometric, parts)]))
        if self.colour:
            images = _recolour(images, self.colour, parts[len(self.geometric) :])
        for layer in self.layers:
            images = layer(images, training=True)
        return images


def build(recipe: tuple[Spec, ...]) -> Augment:
    """Turns `--augment` Specs into a layer; Keras's augmentation layers (`RandomFlip` ...) may be named too.

    Raises:
        UserError: for an unknown name or a wrong argument.
    """
    operations, layers = [], []
    ours = {name: globals()[name] for name in __all__}
    keras_layers = specs.choices(keras.layers, keras.layers.RandomFlip.__bases__[0])
    for item in recipe:
        made = specs.build(item, "--augment", ours, keras_layers)
        if isinstance(made, keras.layers.Layer):
            layers.append(made)
        elif isinstance(made, (Geometric, Colour)):
            operations.append(made)
        elif isinstance(made, tuple) and all(isinstance(part, (Geometric, Colour)) for part in made):
            operations += made
        else:
            raise UserError(f"--augment: {item.name} must give an augmentation. Received: {type(made).__name__}")
    return Augment(tuple(operations), tuple(layers))


def _affine(*rows: Any) -> tf.Tensor:
    """float32 [N, 3, 3] from the six numbers of the two upper rows, each a scalar or [N]."""
    batch = next(tf.shape(value) for value in rows if tf.is_tensor(value))
    columns = [tf.broadcast_to(tf.cast(value, tf.float32), batch) for value in (*rows, 0, 0, 1)]
    return tf.reshape(tf.stack(columns, -1), [-1, 3, 3])


def _product(matrices: list[tf.Tensor]) -> tf.Tensor:
    """float32 [N, 3, 3]: what is applied first stands first, since each maps output to input."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = result @ matrix
    return result


def _resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Bilinear resample of [N, H, W, 3] by float32 [N, 3, 3], mirrored past the edges."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    # The raw operation speaks in pixel centres: the middle of the picture is at (side - 1) / 2.
    to_half = _affine(2 / width, 0, 1 / width - 1, 0, 2 / height, 1 / height - 1)
    to_pixel = _affine(width / 2, 0, (width - 1) / 2, 0, height / 2, (height - 1) / 2)
    pixel = tf.reshape(to_pixel @ matrices @ to_half, [-1, 9])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=pixel[:, :8],
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _blend(u: tf.Tensor, limit: float, target: tf.Tensor) -> tf.Tensor:
    """float32 [N, 3, 4]: f * identity + (1 - f) * target, f drawn between 1 - limit and 1 + limit."""
    factor = _between(u, 1 - limit, 1 + limit)[:, None, None]
    return factor * tf.eye(3, 4) + (1 - factor) * target


def _recolour(images: tf.Tensor, operations: tuple[Colour, ...], draws: list[tf.Tensor]) -> tf.Tensor:
    """Composes the colour operations, left to right, and applies them once; clips to 0..255."""
    mean = tf.reduce_mean(images, axis=[1, 2])
    total = tf.eye(3, 4, batch_shape=[tf.shape(images)[0]])
    for operation, u in zip(operations, draws):
        # The mean of a linear map is the map of the mean: no further pass over the pixels.
        step = operation.matrix(u, tf.linalg.matvec(total[:, :, :3], mean) + total[:, :, 3])
        total = step[:, :, :3] @ total + tf.pad(step[:, :, 3:], [[0, 0], [0, 0], [3, 0]])
    shape = tf.shape(images)
    flat = tf.reshape(images, [shape[0], -1, 3])
    coloured = tf.matmul(flat, total[:, :, :3], transpose_b=True) + total[:, None, :, 3]
    return tf.clip_by_value(tf.reshape(coloured, shape), 0.0, 255.0)


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
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value) or not least < low <= high <= most:
        raise ValueError(rule)
    return float(low), float(high)
