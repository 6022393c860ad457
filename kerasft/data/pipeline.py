"""tf.data pipelines over a Split: a stateless order of examples, then pictures, then augmentation.

The order of epoch e is a permutation by (seed, e) that is computed index by index and cut before anything is
read, so a stream can start at any step at no cost. So is the order that balances the classes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from kerasft.augment import Augment
from kerasft.data.decode import decode_batch
from kerasft.data.splits import Split
from kerasft.settings import machine
from kerasft.settings.errors import UserError

SIDE_BY_SIDE = min(machine.cpu_count(), 16)  # batches that are made at a time
AHEAD = 2  # batches that wait for their step

# Numbers of draws, int64 [B], to how often the example was drawn before, and its row: both int64 [B].
Order = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# How often each example was drawn before, its row (both int64 [B]), and what is known of it (labels, weights), to a tuple
# of what a network is fed [B, ...] and what is then known.
Load = Callable[..., tuple[tf.Tensor, ...]]


@contextmanager
def user_errors() -> Iterator[None]:
    """Raises as itself a UserError that was raised in a stream, where TensorFlow makes an error of its own of it."""
    try:
        yield
    except tf.errors.OpError as error:
        if told := re.search(r"^(?:.*: )?UserError: (--.*)$", error.message, re.MULTILINE):
            raise UserError(told[1]) from None
        raise


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch; the remainder differs from epoch to epoch."""
    return count // min(batch_size, count)


def training_stream(
    labels: np.ndarray,
    load: Load,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    sampling: str = "uniform",
    weights: np.ndarray | None = None,
    parts: int = 1,
) -> tf.data.Dataset:
    """Batches for the steps [first_step, last_step), counted over all epochs.

    Args:
        labels: [N, ...] of the training examples.
        load: gives the inputs, such as `pictures`; it may mix them, and their labels.
        batch_size: B; fewer examples are one batch.
        seed: of the order.
        sampling: `uniform`, each example once an epoch; or `balanced`, each class equally often, for int32 labels.
        weights: float32 [N], one an example.
        parts: that each batch is given in, one after the other.

    Returns:
        A dataset of (inputs [B, ...], labels [B, ...], which are float32 [B, C] where they are mixed), and float32
        [B] where there are weights.
    """
    count = len(labels)
    batch = min(batch_size, count)
    per_epoch = steps_per_epoch(count, batch)
    about = [tf.constant(labels)] + ([] if weights is None else [tf.constant(weights, tf.float32)])
    order = _uniform(count, per_epoch * batch, seed) if sampling == "uniform" else _balanced(labels, seed)

    def indices(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return order(step * batch + tf.range(batch, dtype=tf.int64))

    def examples(rounds: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.ensure_shape(rows, [batch])
        return load(rounds, rows, *(tf.gather(array, rows) for array in about))

    steps = tf.data.Dataset.range(first_step, last_step)
    batches = steps.map(indices).map(examples, num_parallel_calls=SIDE_BY_SIDE)
    if parts > 1:
        batches = batches.unbatch().batch(batch // parts, drop_remainder=True)
    return _ahead(batches)


def pictures(split: Split, size: int, augment: Augment, seed: int, target: int | None = None) -> Load:
    """Augmented pictures, float32 [B, target, target, 3] in 0..255, with draws by (seed, round, row).

    Args:
        size: side of the pictures that are decoded.
        target: side of those that are given; by default the same.
    """
    plain, side = _loader(split, size), target or size

    def load(rounds: tf.Tensor, rows: tf.Tensor, *about: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draws = uniforms(augment.draws, seed, rounds, rows)
        images = tf.ensure_shape(augment(plain(rows), draws, size=side), [rows.shape[0], side, side, 3])
        return augment.mix(draws, images, *about) if about else (images,)

    return load


def activations(views: Sequence[np.ndarray], dtype: str) -> Load:
    """Rows of one of K arrays [N, ...] in `dtype`: of view e mod K in round e."""
    kind, shape = tf.as_dtype(views[0].dtype), views[0].shape[1:]

    def take(rounds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if len(views) == 1:
            return views[0][rows]
        return np.stack([views[turn % len(views)][row] for turn, row in zip(rounds, rows)])

    def load(rounds: tf.Tensor, rows: tf.Tensor, *about: tf.Tensor) -> tuple[tf.Tensor, ...]:
        taken = tf.numpy_function(take, [rounds, rows], kind)
        return tf.cast(tf.ensure_shape(taken, [rows.shape[0], *shape]), dtype), *about

    return load


def evaluation_stream(
    split: Split,
    *,
    size: int,
    batch_size: int,
    augment: Augment | None = None,
    seed: int = 0,
    round: int = 0,
    span: range | None = None,
) -> tf.data.Dataset:
    """Every example once, in order: a dataset of float32 [<=B, S, S, 3] in 0..255.

    Args:
        split: the examples.
        size: side of the pictures, S.
        batch_size: B.
        augment: as in this round of this seed; None for the pictures as they are.
        span: of rows; all by default.
    """
    plain = _loader(split, size)
    augmented = pictures(split, size, augment, seed) if augment else None
    span = range(len(split)) if span is None else span

    def load(rows: tf.Tensor) -> tf.Tensor:
        if augmented:
            return augmented(tf.fill(tf.shape(rows), tf.constant(round, tf.int64)), rows)[0]
        return tf.cast(plain(rows), tf.float32)

    rows = tf.data.Dataset.range(span.start, span.stop).batch(batch_size)
    return _ahead(rows.map(load, num_parallel_calls=SIDE_BY_SIDE))


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Made ahead of use, without tf.data's tuner: its thread sleeps up to a minute when a fit ends, and is waited for."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(AHEAD).with_options(options)


def _uniform(count: int, drawn: int, seed: int) -> Order:
    """An epoch is the first `drawn` of a permutation by (seed, epoch)."""

    def order(draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epochs = draws // drawn
        return epochs, _shuffled(draws % drawn, seed, epochs, count)

    return order


def _balanced(labels: np.ndarray, seed: int) -> Order:
    """Every C draws hold each of C classes once; a class is gone through in rounds, each a permutation of its own."""
    sizes = np.bincount(labels).astype(np.int64)
    classes, starts = len(sizes), tf.constant(np.cumsum(sizes) - sizes)
    sizes, by_class = tf.constant(sizes), tf.constant(np.argsort(labels, kind="stable"), tf.int64)

    def order(draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        turns = draws // classes
        labels = _shuffled(draws % classes, seed, turns * (classes + 1), classes)
        count = tf.gather(sizes, labels)
        rounds = turns // count
        places = _shuffled(turns % count, seed, rounds * (classes + 1) + 1 + labels, count)
        return rounds, tf.gather(by_class, tf.gather(starts, labels) + places)

    return order


def _shuffled(index: tf.Tensor, seed: int, key: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """int64 [B]: where each index stands in the permutation of `count` things that (seed, key) names."""
    first, second = (tf.fill(tf.shape(key), tf.constant(value, tf.int64)) for value in (498247692, seed))
    return _permuted(index, tf.stack([first, second, key], 1), count)


def _permuted(index: tf.Tensor, keys: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """int64 [B] in 0..count-1: the places of an index [B] in permutations by keys int64 [B, 3], of 32 bits each.

    The Simon block cipher (Beaulieu et al. 2013), as in tf.random.experimental.index_shuffle: that goes only 4 rounds,
    after which classes lie together in some batches (up to 16 times the variance of chance), and pads a batch of keys
    along the wrong axis (TensorFlow 2.21). After 16, no statistic told it from chance.
    """
    most = tf.cast(count, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=most, rounds=16)


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


def uniforms(count: int, seed: int, rounds: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """float32 [B, count] in [0, 1) that depends on (seed, round, row) only: a cipher of the numbers 0..count-1.

    Args:
        rounds: int64 [B], how many times the example was drawn before; its epoch, where each is drawn once in one.
        rows: int64 [B], of the examples.
    """
    batch, bits = tf.shape(rows)[0], 24  # those of a float32's fraction
    if not count:
        return tf.zeros([batch, 0])
    keys = tf.stack([tf.fill([batch], tf.constant(seed, tf.int64)), rounds, rows], 1)
    numbers = tf.tile(tf.range(count, dtype=tf.int64), [batch])
    drawn = _permuted(numbers, tf.repeat(keys, count, 0), 1 << bits)
    return tf.reshape(tf.cast(drawn, tf.float32) / (1 << bits), [batch, count])
