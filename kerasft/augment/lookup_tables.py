"""Tables of 256 entries: what a pointwise operation makes of each value of a channel, as Pillow's ImageOps does.

A table is int32 [N, 3, 256], or [N, 1, 256] where the channels are treated alike, of values in 0..255; a histogram is
int32 [N, 3, 256].
"""

import tensorflow as tf


def posterized(bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest bits of each value: int32 [N] of 0 to 8."""
    kept = tf.bitwise.left_shift(tf.fill(tf.shape(bits), 255), 8 - bits)
    return tf.bitwise.bitwise_and(_values(), kept[:, None, None])


def solarized(threshold: tf.Tensor) -> tf.Tensor:
    """Inverts what is at or above float32 [N] of 0 to 256; at 256 nothing is."""
    values = _values()
    return tf.where(tf.cast(values, tf.float32) < threshold[:, None, None], values, 255 - values)


def powered(exponent: tf.Tensor) -> tf.Tensor:
    """255 (v / 255)^g, rounded, g being float32 [N] above 0."""
    values = tf.cast(_values(), tf.float32) / 255
    return tf.cast(tf.round(255 * values ** exponent[:, None, None]), tf.int32)


def stretched(histogram: tf.Tensor) -> tf.Tensor:
    """Spreads the values that occur over 0 to 255, channel by channel: autocontrast without cutoff.

    A channel of one value, and one whose histogram is zeros, stays as it is.
    """
    values = _values()
    occurs = histogram > 0
    low = tf.reduce_min(tf.where(occurs, values, 255), axis=2, keepdims=True)
    high = tf.reduce_max(tf.where(occurs, values, 0), axis=2, keepdims=True)
    spread = _quotient((values - low) * 255, tf.maximum(high - low, 1))
    return tf.where(high > low, tf.clip_by_value(spread, 0, 255), values)


def equalized(histogram: tf.Tensor) -> tf.Tensor:
    """Spreads the values so that all occur about equally often, channel by channel.

    A channel whose histogram is zeros, or (nearly) all in its highest value, stays as it is.
    """
    values = _values()
    highest = tf.reduce_max(tf.where(histogram > 0, values, 0), axis=2)
    last = tf.gather(histogram, highest, axis=2, batch_dims=2)
    step = ((tf.reduce_sum(histogram, axis=2) - last) // 255)[..., None]
    below = tf.cumsum(histogram, axis=2, exclusive=True)
    spread = _quotient(step // 2 + below, tf.maximum(step, 1))
    return tf.where(step > 0, tf.minimum(spread, 255), values)


def after(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """One table, int32 [N, 3, 256], for two that follow each other."""
    return tf.gather(tf.broadcast_to(second, tf.shape(first)), first, axis=2, batch_dims=2)


def through(histogram: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """The histogram of what int32 [N, 3, 256] makes of pictures, from theirs."""
    shape = tf.shape(histogram)
    rows = tf.reshape(table, [-1, 256]) + 256 * tf.range(shape[0] * 3)[:, None]
    return tf.reshape(tf.math.unsorted_segment_sum(histogram, tf.reshape(rows, shape), tf.size(histogram)), shape)


def where(condition: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """The tables where bool [N] holds, elsewhere those that change nothing."""
    return tf.where(condition[:, None, None], table, _values())


def _quotient(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a // b of int32 up to 2**24, with a quotient up to 256; TensorFlow's own is ten times as slow."""
    return tf.cast(tf.floor(tf.cast(a, tf.float32) / tf.cast(b, tf.float32)), tf.int32)


def _values() -> tf.Tensor:
    return tf.range(256)[None, None]
