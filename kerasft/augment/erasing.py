"""Random erasing: a box of the image is filled with a colour."""

import math

import tensorflow as tf

from kerasft.augment import boxes, pixels, ranges
from kerasft.augment.fusion import Pass

__all__ = ["erase"]


def erase(probability: float = 0.25, area: tuple = (0.02, 0.4), ratio: tuple = (0.3, 10 / 3)) -> Pass:
    """Fills a box with a random colour (Zhong et al. 2020, Random Erasing).

    Two things differ from the paper: a box has one random colour, not one for each pixel; and a box that would be longer
    than the image is clipped, not drawn again. The ratio is drawn on a log scale.

    Args:
        probability: share of the images that are changed, in [0, 1].
        area: smallest and largest share of the area of the image, in (0, 1].
        ratio: smallest and largest width/height, positive.
    """
    probability = ranges.check_number("probability", probability, 1)
    low, high = ranges.check_range("area", area, 0, 1)
    narrow, wide = ranges.check_range("ratio", ratio, 0, math.inf)

    def apply(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        size = ranges.scale(u[:, 1], low, high) * tf.where(u[:, 0] < probability, 1.0, 0.0)
        aspect = tf.exp(ranges.scale(u[:, 2], math.log(narrow), math.log(wide)))
        height, width = tf.minimum(tf.sqrt(size / aspect), 1.0), tf.minimum(tf.sqrt(size * aspect), 1.0)
        y, x = (length / 2 + place * (1 - length) for length, place in ((height, u[:, 3]), (width, u[:, 4])))
        return pixels.fill(images, boxes.around(height, width, y, x, tf.shape(images)[1]), 255 * u[:, 5:])

    return Pass(8, apply)
