"""Random erasing: a box of the picture painted over."""

import math

import tensorflow as tf

from kerasft.augment import boxes, pixels, ranges
from kerasft.augment.fusion import Pass

__all__ = ["erase"]


def erase(probability: float = 0.25, area: tuple = (0.02, 0.4), ratio: tuple = (0.3, 10 / 3)) -> Pass:
    """Paints over a box in this share of the pictures (Zhong et al. 2020, Random Erasing).

    As the paper, but for the paint: one random colour for each box, not for each of its pixels; and a box that
    would be longer than the picture is cut to its side, not drawn again. The ratio is drawn on a log scale.

    Args:
        probability: share of the pictures, in [0, 1].
        area: least and greatest share of the picture's area, in (0, 1].
        ratio: least and greatest width/height, positive.
    """
    share = ranges.amount("probability", probability, 1)
    low, high = ranges.pair("area", area, 0, 1)
    narrow, wide = ranges.pair("ratio", ratio, 0, math.inf)

    def apply(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        size = ranges.between(u[:, 1], low, high) * tf.where(u[:, 0] < share, 1.0, 0.0)
        aspect = tf.exp(ranges.between(u[:, 2], math.log(narrow), math.log(wide)))
        height, width = tf.minimum(tf.sqrt(size / aspect), 1.0), tf.minimum(tf.sqrt(size * aspect), 1.0)
        y, x = (length / 2 + place * (1 - length) for length, place in ((height, u[:, 3]), (width, u[:, 4])))
        return pixels.fill(images, boxes.centred(height, width, y, x, tf.shape(images)[1]), 255 * u[:, 5:])

    return Pass(8, apply)
