"""Lookup tables: the result of a pointwise operation for each value of a channel, as in Pillow's ImageOps.

A table is int32 [N, 3, 256], or [N, 1, 256] for equal channels, of values in 0..255. A histogram is int32 [N, 3, 256].
"""

import tensorflow as tf


def posterize(bits: tf.Tensor) -> tf.Tensor:
    """Returns the table that keeps the highest bits of each value: int32 [N] of 0 to 8."""
    kept = tf.bitwise.left_shift(tf.fill(tf.shape(bits), 255), 8 - bits)
    return tf.bitwise.bitwise_and(_values(), kept[:, None, None])


def solarize(threshold: tf.Tensor) -> tf.Tensor:
    """Returns the table that inverts values from a threshold on, float32 [N] of 0 to 256; 256 inverts none."""
    values = _values()
    return tf.where(tf.cast(values, tf.float32) < threshold[:, None, None], values, 255 - values)


def gamma(exponent: tf.Tensor) -> tf.Tensor:
    """Returns the table of 255 (v / 255)^g, rounded; g is float32 [N] above 0."""
    values = tf.cast(_values(), tf.float32) / 255
    return tf.cast(tf.round(255 * values ** exponent[:, None, None]), tf.int32)


def autocontrast(histogram: tf.Tensor) -> tf.Tensor:
    """Returns the table that scales the values of each channel to 0..255: autocontrast without a cutoff.

    A channel of one value, or with a histogram of zeros, is not changed.
    """
    values = _values()
    occurs = histogram > 0
    low = tf.reduce_min(tf.where(occurs, values, 255), axis=2, keepdims=True)
    high = tf.reduce_max(tf.where(occurs, values, 0), axis=2, keepdims=True)
    spread = _floor_divide((values - low) * 255, tf.maximum(high - low, 1))
    return tf.where(high > low, tf.clip_by_value(spread, 0, 255), values)


def equalize(histogram: tf.Tensor) -> tf.Tensor:
    """Returns the table that equalizes the histogram of each channel.

    A channel with a histogram of zeros, or with (nearly) all pixels at its highest value, is not changed.
    """
    values = _values()
    highest = tf.reduce_max(tf.where(histogram > 0, values, 0), axis=2)
    last = tf.gather(histogram, highest, axis=2, batch_dims=2)
    step = ((tf.reduce_sum(histogram, axis=2) - last) // 255)[..., None]
    below = tf.cumsum(histogram, axis=2, exclusive=True)
    spread = _floor_divide(step // 2 + below, tf.maximum(step, 1))
    return tf.where(step > 0, tf.minimum(spread, 255), values)


def compose(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns one table, int32 [N, 3, 256], that applies the first table, then the second."""
    return tf.gather(tf.broadcast_to(second, tf.shape(first)), first, axis=2, batch_dims=2)


def map_histogram(histogram: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Returns the histogram of images after a table, int32 [N, 3, 256], from their histogram before it."""
    shape = tf.shape(histogram)
    rows = tf.reshape(table, [-1, 256]) + 256 * tf.range(shape[0] * 3)[:, None]
    return tf.reshape(tf.math.unsorted_segment_sum(histogram, tf.reshape(rows, shape), tf.size(histogram)), shape)


def apply_where(condition: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Returns the tables where the condition, bool [N], holds, and the identity elsewhere."""
    return tf.where(condition[:, None, None], table, _values())


def _floor_divide(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns a // b for int32 up to 2**24 and a quotient up to 256. TensorFlow's own division takes ten times as long."""
    return tf.cast(tf.floor(tf.cast(a, tf.float32) / tf.cast(b, tf.float32)), tf.int32)


def _values() -> tf.Tensor:
    return tf.range(256)[None, None]
