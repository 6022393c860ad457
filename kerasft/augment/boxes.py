"""Boxes in pictures: int32 [N, 4] of top, bottom, left and right in pixels, the second and last excluded."""

import tensorflow as tf


def centred(height: tf.Tensor, width: tf.Tensor, y: tf.Tensor, x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """int32 [N, 4]: boxes around a centre, cut at the picture's edges.

    Args:
        height, width, y, x: float32 [N], in units of the side of the picture.
        side: of the picture, in pixels.
    """
    ends = tf.stack([y - height / 2, y + height / 2, x - width / 2, x + width / 2], 1)
    return tf.cast(tf.round(tf.clip_by_value(ends, 0.0, 1.0) * tf.cast(side, tf.float32)), tf.int32)


def area(corners: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """float32 [N]: the share of a picture of this side that each of int32 [N, 4] covers."""
    pixels = (corners[:, 1] - corners[:, 0]) * (corners[:, 3] - corners[:, 2])
    return tf.cast(pixels, tf.float32) / tf.cast(side * side, tf.float32)


def inside(corners: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """bool [N, H, W, 1]: what of pictures of this shape, int32 [4], lies in int32 [N, 4]."""
    y, x = tf.range(shape[1]), tf.range(shape[2])
    rows = (y >= corners[:, :1]) & (y < corners[:, 1:2])
    columns = (x >= corners[:, 2:3]) & (x < corners[:, 3:])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
