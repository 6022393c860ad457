"""Mixes images, and their labels: each image with the image before it in the batch.

How much is mixed depends on (seed, epoch, example) only, as in all augmentation. The partner also depends on which examples
a batch holds, and so on `--batch_size`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats
import tensorflow as tf

from kerasft.augment import boxes, pixels, ranges

__all__ = ["cutmix", "mixup"]

# The inverse of a beta distribution is interpolated between so many points.
_POINTS = 4096


class Mix(NamedTuple):
    """A way to mix an image with its partner, in a box.

    Attributes:
        draws: how many random numbers it needs for each image.
        plan: random numbers, float32 [N, draws] in [0, 1), and the side of the images to boxes, int32 [N, 4], and the
            weight of the image itself in its box, float32 [N].
    """

    draws: int
    plan: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixup(alpha: float = 0.2) -> Mix:
    """Mixes l of an image with 1 - l of another, l from Beta(alpha, alpha) (Zhang et al. 2018).

    Unlike in the paper, l is drawn for each image, not for a batch. Together with `cutmix`, each image gets one of them.

    Args:
        alpha: in [0.01, 100]; a small one leaves most images (nearly) unchanged.
    """
    inverse = _inverse_beta(ranges.check_number("alpha", alpha, 100, 0.01))

    def plan(u: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        whole = tf.tile(tf.stack([0, side, 0, side])[None], [tf.shape(u)[0], 1])
        return whole, inverse(u[:, 0])

    return Mix(1, plan)


def cutmix(alpha: float = 1.0) -> Mix:
    """Replaces a box of 1 - l of the area by that of another image, l from Beta(alpha, alpha) (Yun et al. 2019).

    As in the paper, the box has the proportions of the image and a random centre, it is clipped at the edges, and the
    labels are mixed by the pixels that remain. Unlike in the paper, all of it is drawn for each image, not for a batch.
    Together with `mixup`, each image gets one of them.

    Args:
        alpha: in [0.01, 100]; 1 makes all l equally likely.
    """
    inverse = _inverse_beta(ranges.check_number("alpha", alpha, 100, 0.01))

    def plan(u: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.sqrt(1 - inverse(u[:, 0]))
        return boxes.around(length, length, u[:, 1], u[:, 2], side), tf.zeros_like(length)

    return Mix(3, plan)


def mix(
    mixes: tuple[Mix, ...], u: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Mixes a batch. Of several ways, each image gets one, all equally likely.

    The labels of weighted examples are mixed by their weights. So for a loss that is linear in the labels, such as
    cross-entropy, weight * loss is the mean over the two examples, weighted by the pixels of each.

    Args:
        u: float32 [N, count_draws(mixes)], uniform in [0, 1).
        images: float32 [N, S, S, 3].
        labels: float32 [N, C].
        weights: float32 [N], positive, or None.

    Returns:
        The same three, mixed.
    """
    side = tf.shape(images)[1]
    chosen = tf.cast(u[:, 0] * len(mixes), tf.int32)
    columns = tf.split(u[:, 1:], [way.draws for way in mixes], axis=1)
    plans = [way.plan(draws, side) for way, draws in zip(mixes, columns)]
    corners, shares = (tf.stack(values, 1) for values in zip(*plans))
    corners, shares = (tf.gather(values, chosen, axis=1, batch_dims=1) for values in (corners, shares))
    own = 1 - boxes.relative_area(corners, side) * (1 - shares)
    other = 1 - own
    if weights is not None:
        own, other = own * weights, other * tf.roll(weights, 1, axis=0)
        weights = own + other
        own, other = own / weights, other / weights
    labels = own[:, None] * labels + other[:, None] * tf.roll(labels, 1, axis=0)
    return pixels.blend(images, corners, shares), labels, weights


def count_draws(mixes: tuple[Mix, ...]) -> int:
    """Returns how many random numbers `mix` needs for each image."""
    return 1 + sum(way.draws for way in mixes) if mixes else 0


def _inverse_beta(alpha: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the inverse of the distribution function of Beta(alpha, alpha), linear between `_POINTS` + 1 exact points."""
    exact = scipy.stats.beta.ppf(np.linspace(0, 1, _POINTS + 1), alpha, alpha)
    points = tf.constant(exact, tf.float32)

    def inverse(u: tf.Tensor) -> tf.Tensor:
        place = u * _POINTS
        before = tf.cast(place, tf.int32)
        low, high = tf.gather(points, before), tf.gather(points, tf.minimum(before + 1, _POINTS))
        return low + (high - low) * (place - tf.floor(place))

    return inverse
