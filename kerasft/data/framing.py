"""Framing: how an image of any proportions becomes a square. Each way is one function, in TensorFlow operations only.

`crop` loses what lies outside of the largest centred square, `pad` loses resolution, and `squash` loses the proportions.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# The grey of the bars of a padded image: about the mean of ImageNet over the channels, so a pretrained network sees
# nearly the zeros that its own convolutions pad with.
PADDING = 114
# By orientation: whether to reverse the stored rows, and the stored columns. From 5 on, both axes are then exchanged.
REVERSED_AXES = ((0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (1, 0), (1, 1), (0, 1))


class Framing(NamedTuple):
    """A way to make images square.

    Attributes:
        fit: image uint8 [H, W, 3], size S and EXIF orientation (int32 scalar) to float32 [S, S, 3] in 0..255. It frames
            the stored image as it would frame the upright one, so the small square can be turned instead.
        reduced_side: heights and widths to the side that has to keep S pixels where a JPEG is decoded at a fraction.
    """

    fit: Callable[[tf.Tensor, int, tf.Tensor | int], tf.Tensor]
    reduced_side: Callable[[tf.Tensor], tf.Tensor]


def crop(image: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """Crops the largest centred square and resizes it.

    The crop comes first, so a 600x3 strip takes no more memory than any other image. Where the centre lies between two
    pixels, the square is that of the upright image.
    """
    extent = tf.shape(image)[:2]
    side = tf.reduce_min(extent)
    start = _centred(extent - side, orientation)
    return _resize(tf.slice(image, [start[0], start[1], 0], [side, side, 3]), tf.fill([2], size), size)


def pad(image: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """Resizes the whole image, so that its longer side fits, and puts it into the middle of a grey square."""
    extent = tf.cast(tf.shape(image)[:2], tf.int64)
    longer = tf.reduce_max(extent)
    target = tf.cast(tf.maximum((2 * size * extent + longer) // (2 * longer), 1), tf.int32)
    before = _centred(size - target, orientation)
    margins = tf.pad(tf.stack([before, size - target - before], 1), [[0, 1], [0, 0]])
    padded = tf.pad(_resize(image, target), margins, constant_values=float(PADDING))
    return tf.ensure_shape(padded, [size, size, 3])


def squash(image: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """Resizes the whole image to the square, each axis by its own factor."""
    return _resize(image, tf.fill([2], size), size)


# The names that `--framing` takes, `auto` apart.
FRAMINGS = {
    "crop": Framing(crop, tf.reduce_min),
    "pad": Framing(pad, tf.reduce_max),
    "squash": Framing(squash, tf.reduce_min),
}


def _centred(spare: tf.Tensor, orientation: tf.Tensor | int) -> tf.Tensor:
    """Returns int32 [2], the half of spare pixels that stands before the middle, rounded down in the upright image."""
    return (spare + tf.gather(REVERSED_AXES, orientation)) // 2


def _resize(image: tf.Tensor, target: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Resizes each axis bilinearly, or by area where it shrinks to less than half.

    Down to a half, bilinear resizing skips almost no pixel and takes half the time. Below a half, area resizing averages
    all pixels, so nothing aliases. Both are separable, so an axis that shrinks much is resized before the other.

    Args:
        image: uint8 [H, W, 3].
        target: int32 [2], height and width of the result.
        size: both of them, where they are known and equal.

    Returns:
        float32 [height, width, 3], RGB in 0..255.
    """
    images, extent = image[tf.newaxis], tf.shape(image)[:2]
    shrinks = extent > 2 * target

    def bilinear(images: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ResizeBilinear(images=images, size=target, half_pixel_centers=True)

    resized = tf.cond(
        tf.reduce_any(shrinks),
        # Bilinear resizing copies an axis that has its length already.
        lambda: bilinear(tf.raw_ops.ResizeArea(images=images, size=tf.where(shrinks, target, extent))),
        lambda: bilinear(images),
    )
    return tf.ensure_shape(resized[0], [size, size, 3])
