"""Pictures mixed with each other, and their labels with them: each with the one before it in its batch.

How much is drawn for each picture on its own, so that it depends on (seed, epoch, example), as all augmentation does;
the partner also on which examples a batch holds, and so on `--batch_size`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats
import tensorflow as tf

from kerasft.augment import boxes, pixels, ranges

__all__ = ["cutmix", "mixup"]

_POINTS = 4096  # of the inverse of a beta distribution


class Mix(NamedTuple):
    """How a picture is mixed with its partner: in a box.

    Attributes:
        draws: how many numbers it takes for each picture.
        plan: draws, float32 [N, draws] in [0, 1), and the side of the pictures to boxes, int32 [N, 4], and the share
            of itself that a picture keeps in its box, float32 [N].
    """

    draws: int
    plan: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixup(alpha: float = 0.2) -> Mix:
    """A picture keeps the share l of itself and takes the rest from another, l from Beta(alpha, alpha) (Zhang et al. 2018).

    As the paper, but that l is drawn for each picture, not for a batch. Beside `cutmix`, each picture gets one of them.

    Args:
        alpha: in [0.01, 100]; small leaves most pictures (nearly) alone.
    """
    inverse = _inverse_beta(ranges.amount("alpha", alpha, 100, 0.01))

    def plan(u: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        whole = tf.tile(tf.stack([0, side, 0, side])[None], [tf.shape(u)[0], 1])
        return whole, inverse(u[:, 0])

    return Mix(1, plan)


def cutmix(alpha: float = 1.0) -> Mix:
    """A box of 1 - l of the area comes from another picture, l from Beta(alpha, alpha) (Yun et al. 2019).

    As the paper: the box has the picture's proportions and a random centre, is cut at the edges, and labels are mixed by
    the pixels that are left; but that all of it is drawn for each picture, not for a batch. Beside `mixup`, each picture
    gets one of them.

    Args:
        alpha: in [0.01, 100]; 1 makes all shares equally likely.
    """
    inverse = _inverse_beta(ranges.amount("alpha", alpha, 100, 0.01))

    def plan(u: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.sqrt(1 - inverse(u[:, 0]))
        return boxes.centred(length, length, u[:, 1], u[:, 2], side), tf.zeros_like(length)

    return Mix(3, plan)


def mix(
    mixes: tuple[Mix, ...], u: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Mixes a batch; of several ways each picture gets one, all equally likely.

    The labels of weighted examples are mixed by their weights, so that for a loss that is linear in the labels, such
    as cross-entropy, weight * loss is the mean of the two examples' own, weighted by what is seen of each.

    Args:
        u: float32 [N, draws(mixes)], uniform in [0, 1).
        images: float32 [N, S, S, 3].
        labels: float32 [N, C].
        weights: float32 [N], positive, or None.

    Returns:
        The same three, mixed.
    """
    side = tf.shape(images)[1]
    chosen = tf.cast(u[:, 0] * len(mixes), tf.int32)
    parts = tf.split(u[:, 1:], [one.draws for one in mixes], axis=1)
    corners, shares = (tf.stack(plans, 1) for plans in zip(*(one.plan(part, side) for one, part in zip(mixes, parts))))
    corners, shares = (tf.gather(plans, chosen, axis=1, batch_dims=1) for plans in (corners, shares))
    own = 1 - boxes.area(corners, side) * (1 - shares)
    other = 1 - own
    if weights is not None:
        own, other = own * weights, other * tf.roll(weights, 1, axis=0)
        weights = own + other
        own, other = own / weights, other / weights
    labels = own[:, None] * labels + other[:, None] * tf.roll(labels, 1, axis=0)
    return pixels.blend(images, corners, shares), labels, weights


def draws(mixes: tuple[Mix, ...]) -> int:
    """How many numbers `mix` takes for each picture."""
    return 1 + sum(one.draws for one in mixes) if mixes else 0


def _inverse_beta(alpha: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """The inverse of the distribution function of Beta(alpha, alpha), linear between `_POINTS` + 1 exact points."""
    exact = scipy.stats.beta.ppf(np.linspace(0, 1, _POINTS + 1), alpha, alpha)
    points = tf.constant(exact, tf.float32)

    def inverse(u: tf.Tensor) -> tf.Tensor:
        place = u * _POINTS
        before = tf.cast(place, tf.int32)
        low, high = tf.gather(points, before), tf.gather(points, tf.minimum(before + 1, _POINTS))
        return low + (high - low) * (place - tf.floor(place))

    return inverse
