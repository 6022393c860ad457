"""tf.data pipelines over a Split: a stateless order of examples, then decoding, then augmentation.

The order of epoch e is a permutation that (seed, e) defines. It is computed index by index, before anything is read. So a
stream can start at any step without reading the steps before. The same holds for the order that balances the classes.
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

# So many batches are made at the same time.
MAX_PARALLEL_BATCHES = min(machine.cpu_count(), 16)
# So many finished batches wait for their step.
PREFETCHED_BATCHES = 2
# Images in a batch of evaluation, where no gradient is computed.
EVALUATION_BATCH_SIZE = 64

# A function from positions in the stream of examples, int64 [B], to rounds and rows, both int64 [B]. The round of an
# example counts how often it came before: its epoch, where each example comes once an epoch.
Order = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# A function from rounds, rows (both int64 [B]) and targets (labels; weights) to the inputs of a network [B, ...] and
# their targets, which are mixed where the inputs are.
Load = Callable[..., tuple[tf.Tensor, ...]]


@contextmanager
def user_errors() -> Iterator[None]:
    """Raises a UserError of a stream as itself; TensorFlow wraps it in an error of its own."""
    try:
        yield
    except tf.errors.OpError as error:
        if match := re.search(r"^(?:.*: )?UserError: (--.*)$", error.message, re.MULTILINE):
            raise UserError(match[1]) from None
        raise


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Returns the whole batches in an epoch. Which examples remain differs from epoch to epoch."""
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
    micro_batches: int = 1,
) -> tf.data.Dataset:
    """Returns the batches for the steps [first_step, last_step), counted over all epochs.

    Args:
        labels: [N, ...] of the training examples.
        load: returns the inputs, such as that of `augmented_images`; it may mix the inputs, and their labels.
        batch_size: B. Fewer examples than that are one batch.
        seed: of the order.
        sampling: `uniform`, each example once an epoch; or `balanced`, each class equally often, for int32 labels.
        weights: float32 [N] of the examples.
        micro_batches: how many equal parts each batch is split into, one after the other.

    Returns:
        A dataset of (inputs [B, ...], labels [B, ...], which are float32 [B, C] where they are mixed), and float32
        [B] where there are weights.
    """
    count = len(labels)
    batch = min(batch_size, count)
    per_epoch = steps_per_epoch(count, batch)
    targets = [tf.constant(labels)] + ([] if weights is None else [tf.constant(weights, tf.float32)])
    order = _uniform_order(count, per_epoch * batch, seed) if sampling == "uniform" else _balanced_order(labels, seed)

    def indices(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return order(step * batch + tf.range(batch, dtype=tf.int64))

    def examples(rounds: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.ensure_shape(rows, [batch])
        return load(rounds, rows, *(tf.gather(array, rows) for array in targets))

    steps = tf.data.Dataset.range(first_step, last_step)
    batches = steps.map(indices).map(examples, num_parallel_calls=MAX_PARALLEL_BATCHES)
    if micro_batches > 1:
        batches = batches.unbatch().batch(batch // micro_batches, drop_remainder=True)
    return _prefetch(batches)


def augmented_images(split: Split, size: int, augment: Augment, seed: int, target: int | None = None) -> Load:
    """Returns a Load of augmented images, float32 [B, target, target, 3] in 0..255.

    The random numbers of an image depend on (seed, round, row) only.

    Args:
        size: side of the decoded images in pixels.
        target: side of the augmented images in pixels; by default `size`.
    """
    decoded, side = _image_loader(split, size), target or size

    def load(rounds: tf.Tensor, rows: tf.Tensor, *targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draws = uniform_draws(augment.draws, seed, rounds, rows)
        images = tf.ensure_shape(augment(decoded(rows), draws, size=side), [rows.shape[0], side, side, 3])
        return augment.mix(draws, images, *targets) if targets else (images,)

    return load


def cached_activations(augmentations: Sequence[np.ndarray], dtype: str) -> Load:
    """Returns a Load of rows of K cached augmentations, arrays [N, ...], in `dtype`; round e reads number e mod K."""
    stored_dtype, shape = tf.as_dtype(augmentations[0].dtype), augmentations[0].shape[1:]

    def take(rounds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if len(augmentations) == 1:
            return augmentations[0][rows]
        return np.stack([augmentations[index % len(augmentations)][row] for index, row in zip(rounds, rows)])

    def load(rounds: tf.Tensor, rows: tf.Tensor, *targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        taken = tf.numpy_function(take, [rounds, rows], stored_dtype)
        return tf.cast(tf.ensure_shape(taken, [rows.shape[0], *shape]), dtype), *targets

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
    """Returns a dataset of every example once, in order, float32 [<=B, S, S, 3] in 0..255.

    Args:
        split: the examples.
        size: side of the images in pixels, S.
        batch_size: B.
        augment: augments the images as in `round` under `seed`; None for the decoded images.
        span: the rows to read; by default all.
    """
    decoded = _image_loader(split, size)
    augmented = augmented_images(split, size, augment, seed) if augment else None
    span = range(len(split)) if span is None else span

    def load(rows: tf.Tensor) -> tf.Tensor:
        if augmented:
            return augmented(tf.fill(tf.shape(rows), tf.constant(round, tf.int64)), rows)[0]
        return tf.cast(decoded(rows), tf.float32)

    rows = tf.data.Dataset.range(span.start, span.stop).batch(batch_size)
    return _prefetch(rows.map(load, num_parallel_calls=MAX_PARALLEL_BATCHES))


def decoded_images(split: Split, rows: np.ndarray, size: int) -> np.ndarray:
    """Returns the images of rows [B], uint8 [B, size, size, 3]: those that are stored, or else decoded now."""
    if split.images is not None:
        return split.images(rows)
    return decode_batch(tf.constant([split.read(int(row)) for row in rows], tf.string), size, split.framing).numpy()


def _prefetch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches batches, without tf.data's autotuner: its thread sleeps up to a minute, and the end of a fit waits for it."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED_BATCHES).with_options(options)


def _uniform_order(count: int, per_epoch: int, seed: int) -> Order:
    """Returns an Order whose epochs are the first `per_epoch` examples of a permutation by (seed, epoch)."""

    def order(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epochs = positions // per_epoch
        return epochs, _shuffle(positions % per_epoch, seed, epochs, count)

    return order


def _balanced_order(labels: np.ndarray, seed: int) -> Order:
    """Returns an Order in which every C examples hold each of C classes once.

    The examples of a class come in rounds. Each round is a permutation of its own.
    """
    sizes = np.bincount(labels).astype(np.int64)
    classes, starts = len(sizes), tf.constant(np.cumsum(sizes) - sizes)
    sizes, by_class = tf.constant(sizes), tf.constant(np.argsort(labels, kind="stable"), tf.int64)

    def order(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        turns = positions // classes
        labels = _shuffle(positions % classes, seed, turns * (classes + 1), classes)
        count = tf.gather(sizes, labels)
        rounds = turns // count
        places = _shuffle(turns % count, seed, rounds * (classes + 1) + 1 + labels, count)
        return rounds, tf.gather(by_class, tf.gather(starts, labels) + places)

    return order


def _shuffle(index: tf.Tensor, seed: int, key: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Returns int64 [B], the places of indices in the permutations of 0..count-1 that (seed, key) define."""
    first, second = (tf.fill(tf.shape(key), tf.constant(value, tf.int64)) for value in (498247692, seed))
    return _permute(index, tf.stack([first, second, key], 1), count)


def _permute(index: tf.Tensor, keys: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Returns int64 [B] in 0..count-1, the places of indices [B] in permutations by keys, int64 [B, 3] of 32 bits each.

    This is the Simon block cipher (Beaulieu et al. 2013), as in tf.random.experimental.index_shuffle. That function uses
    only 4 rounds, after which some batches hold too many of one class (up to 16 times the variance of chance). It also
    pads a batch of keys along the wrong axis (TensorFlow 2.21). After 16 rounds, no statistic differed from chance.
    """
    max_index = tf.cast(count, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=max_index, rounds=16)


def _image_loader(split: Split, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from rows, int64 [B], to images, uint8 [B, size, size, 3]: stored ones, or read and decoded."""
    if split.images is not None:
        stored = split.images
        return lambda rows: _with_shape(tf.numpy_function(stored, [rows], tf.uint8), size)

    def read(rows: np.ndarray) -> np.ndarray:
        return np.array([split.read(int(row)) for row in rows], object)

    def decoded(rows: tf.Tensor) -> tf.Tensor:
        return decode_batch(tf.numpy_function(read, [rows], tf.string), size, split.framing)

    return lambda rows: _with_shape(decoded(rows), size)


def _with_shape(images: tf.Tensor, size: int) -> tf.Tensor:
    return tf.ensure_shape(images, [None, size, size, 3])


def uniform_draws(count: int, seed: int, rounds: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, count] in [0, 1) that depend on (seed, round, row) only: a cipher of the numbers 0..count-1.

    Args:
        rounds: int64 [B], of the examples, as in an Order.
        rows: int64 [B], of the examples.
    """
    # A float32 has 24 bits of precision.
    batch, bits = tf.shape(rows)[0], 24
    if not count:
        return tf.zeros([batch, 0])
    keys = tf.stack([tf.fill([batch], tf.constant(seed, tf.int64)), rounds, rows], 1)
    numbers = tf.tile(tf.range(count, dtype=tf.int64), [batch])
    draws = _permute(numbers, tf.repeat(keys, count, 0), 1 << bits)
    return tf.reshape(tf.cast(draws, tf.float32) / (1 << bits), [batch, count])
