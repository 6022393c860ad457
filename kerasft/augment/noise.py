"""Noise: each image gets normal noise of a strength of its own."""

import tensorflow as tf

from kerasft.augment import pixels, ranges
from kerasft.augment.fusion import Pass

__all__ = ["noise"]


def noise(deviation: float = 0.1, probability: float = 0.5) -> Pass:
    """Adds normal noise to each channel of each pixel (Rusak et al. 2020, "A simple way to make neural networks robust", Gaussian noise).

    The deviation is drawn anew for each image, evenly between 0 and `deviation`. As in the paper part of the images stay as they
    are, so that the network does not forget them. Values are clipped to 0..255.

    Args:
        deviation: the largest one, as a share of the range of the values, in [0, 1].
        probability: share of the images that are changed, in [0, 1].
    """
    largest = 255 * ranges.check_number("deviation", deviation, 1)
    probability = ranges.check_number("probability", probability, 1)

    def apply(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        deviations = tf.where(u[:, 0] < probability, largest * u[:, 1], 0.0)
        # A float32 in [0, 1) has 24 random bits.
        seeds = tf.cast(u[:, 2:] * 2.0**24, tf.uint32)
        return pixels.add_noise(images, seeds[:, 0] * 256 + seeds[:, 1] % 256, deviations)

    return Pass(4, apply)
