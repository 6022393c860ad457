"""tf.data pipelines over a Split: a stateless order of examples, then pictures, then augmentation.

The order of epoch e is a permutation by (seed, e) that is computed index by index and cut before anything is
read, so a stream can start at any step at no cost.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasft.augment import Augment
from kerasft.data.splits import Split
from kerasft.decode import decode_batch


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch; the remainder differs from epoch to epoch."""
    return count // min(batch_size, count)


def training_stream(
    split: Split,
    *,
    size: int,
    batch_size: int,
    augment: Augment,
    seed: int,
    first_step: int,
    last_step: int,
) -> tf.data.Dataset:
    """Augmented batches for the steps [first_step, last_step), counted over all epochs.

    Args:
        split: the training examples.
        size: side of the pictures, S.
        batch_size: B; a smaller split is one batch.
        augment: applied to each batch, with draws by (seed, epoch, example).
        seed: of order and augmentation.

    Returns:
        A dataset of (float32 [B, S, S, 3] in 0..255, int32 [B]).
    """
    count = len(split)
    batch = min(batch_size, count)
    per_epoch = steps_per_epoch(count, batch)
    labels = tf.constant(split.labels)
    load = _loader(split, size)

    def indices(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, place = step // per_epoch, (step % per_epoch) * batch + tf.range(batch, dtype=tf.int64)
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        return epoch, tf.random.experimental.index_shuffle(place, key, count - 1)

    def pictures(epoch: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = augment(load(rows), _draws(augment.draws, seed, epoch, rows))
        return tf.ensure_shape(images, [batch, size, size, 3]), tf.gather(labels, rows)

    steps = tf.data.Dataset.range(first_step, last_step)
    return steps.map(indices).map(pictures, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_stream(split: Split, *, size: int, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order, unaugmented: a dataset of float32 [<=B, S, S, 3] in 0..255."""
    load = _loader(split, size)

    def pictures(rows: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.cast(load(rows), tf.float32), [None, size, size, 3])

    rows = tf.data.Dataset.range(len(split)).batch(batch_size)
    return rows.map(pictures, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _loader(split: Split, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """int64 [B] rows to uint8 [B, size, size, 3]: from memory, or read and decoded."""
    if split.pictures is not None:
        held = split.pictures
        return lambda rows: _shaped(tf.numpy_function(held, [rows], tf.uint8), size)

    def read(rows: np.ndarray) -> np.ndarray:
        return np.array([split.read(int(row)) for row in rows], object)

    return lambda rows: _shaped(decode_batch(tf.numpy_function(read, [rows], tf.string), size), size)


def _shaped(images: tf.Tensor, size: int) -> tf.Tensor:
    return tf.ensure_shape(images, [None, size, size, 3])


def _draws(count: int, seed: int, epoch: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """float32 [B, count] in [0, 1) that depends on (seed, epoch, row) only; Philox, Salmon et al. 2011."""
    # The three keys fit the two words of a stateless seed: an epoch stays far below 2**32.
    key = tf.constant(seed, tf.int64) * 2**32 + epoch

    def one(row: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([count], tf.stack([key, row]), alg="philox")

    return tf.map_fn(one, rows, fn_output_signature=tf.TensorSpec([count], tf.float32))
