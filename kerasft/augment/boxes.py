"""Boxes in images: int32 [N, 4] of top, bottom, left and right in pixels. Bottom and right are exclusive."""

import tensorflow as tf


def around(height: tf.Tensor, width: tf.Tensor, y: tf.Tensor, x: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Returns boxes around centres, int32 [N, 4], clipped at the edges of the image.

    Args:
        height, width, y, x: float32 [N], in units of the side of the image.
        side: of the image in pixels.
    """
    ends = tf.stack([y - height / 2, y + height / 2, x - width / 2, x + width / 2], 1)
    return tf.cast(tf.round(tf.clip_by_value(ends, 0.0, 1.0) * tf.cast(side, tf.float32)), tf.int32)


def relative_area(corners: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Returns float32 [N], the share of an image of this side that each box, int32 [N, 4], covers."""
    pixels = (corners[:, 1] - corners[:, 0]) * (corners[:, 3] - corners[:, 2])
    return tf.cast(pixels, tf.float32) / tf.cast(side * side, tf.float32)


def mask(corners: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Returns bool [N, H, W, 1], which pixels of images of this shape, int32 [4], are in boxes, int32 [N, 4]."""
    y, x = tf.range(shape[1]), tf.range(shape[2])
    rows = (y >= corners[:, :1]) & (y < corners[:, 1:2])
    columns = (x >= corners[:, 2:3]) & (x < corners[:, 3:])
    return (rows[:, :, None] & columns[:, None, :])[..., None]
