"""Fusion: any recipe becomes one resample, one lookup table and one colour matrix for each image.

Operations are composed as 3x3 matrices, tables of 256 entries and 3x4 matrices, before any pixel is read. Operations of one
form keep the order of the recipe. The forms have a fixed order: geometry, then tables, then colour matrices.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kerasft.augment import lookup_tables, pixels


class Operation(NamedTuple):
    """A named augmentation, in up to three forms. All use the same random numbers u, float32 [N, draws] in [0, 1).

    Attributes:
        draws: how many random numbers it needs for each image.
        geometry: u to float32 [N, 3, 3], from output to input coordinates, in units of half the image.
        table: u and the histogram, int32 [N, 3, 256], to a table, int32 [N, 3 or 1, 256].
        histogram: u to bool [N], for which images the table needs the histogram; it is zeros for the others.
        colour: u and the mean RGB, float32 [N, 3], to float32 [N or 1, 3, 4], applied to RGB in 0..255.
    """

    draws: int
    geometry: Callable[[tf.Tensor], tf.Tensor] | None = None
    table: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    histogram: Callable[[tf.Tensor], tf.Tensor] | None = None
    colour: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None


class Pass(NamedTuple):
    """An augmentation that reads the pixels itself, after the fused operations.

    Attributes:
        draws: how many random numbers it needs for each image.
        apply: images, float32 [N, S, S, 3] in 0..255, and random numbers, float32 [N, draws] in [0, 1), to such images.
    """

    draws: int
    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def compose(operations: tuple[Operation, ...], *, shared_draws: int | None = None) -> Operation:
    """Composes Operations into one, applied left to right.

    Args:
        operations: each uses its own columns of the random numbers, unless
        shared_draws: is given; then all use the same columns, so many of them.
    """
    sizes = [operation.draws for operation in operations]

    def select(form: str, u: tf.Tensor) -> list[tuple[Operation, tf.Tensor]]:
        """Returns the Operations that have a form, each with its random numbers."""
        columns = [u] * len(sizes) if shared_draws is not None else tf.split(u, sizes, axis=1)
        return [(operation, draws) for operation, draws in zip(operations, columns) if getattr(operation, form)]

    def geometry(u: tf.Tensor) -> tf.Tensor:
        first, *others = (operation.geometry(draws) for operation, draws in select("geometry", u))
        # Each matrix maps output to input, so the matrix that is applied first stands first.
        for matrix in others:
            first = first @ matrix
        return first

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        (first, draws), *others = select("table", u)
        total = tf.broadcast_to(first.table(draws, histogram), tf.shape(histogram))
        for operation, draws in others:
            current = lookup_tables.map_histogram(histogram, total) if operation.histogram else histogram
            total = lookup_tables.compose(total, operation.table(draws, current))
        return total

    def histogram(u: tf.Tensor) -> tf.Tensor:
        needed = [operation.histogram(draws) for operation, draws in select("histogram", u)]
        return tf.reduce_any(tf.stack(needed), axis=0)

    def colour(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        total = tf.eye(3, 4, batch_shape=[tf.shape(u)[0]])
        for operation, draws in select("colour", u):
            # The mean after a linear map is the map of the mean, so the pixels are not read again.
            step = operation.colour(draws, tf.linalg.matvec(total[:, :, :3], mean) + total[:, :, 3])
            total = step[:, :, :3] @ total + tf.pad(step[:, :, 3:], [[0, 0], [0, 0], [3, 0]])
        return total

    forms = {"geometry": geometry, "table": table, "histogram": histogram, "colour": colour}
    present = {name: form for name, form in forms.items() if any(getattr(one, name) for one in operations)}
    return Operation(sum(sizes) if shared_draws is None else shared_draws, **present)


def fuse(images: tf.Tensor, operation: Operation, u: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Applies an Operation to a batch.

    Args:
        images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
        u: float32 [N, operation.draws], uniform in [0, 1).
        size: side of the returned images in pixels, T; by default S.

    Returns:
        float32 [N, T, T, 3] in 0..255; whole numbers where a table comes last.
    """
    if operation.geometry:
        images = pixels.resample(images, operation.geometry(u), size)
    elif size not in (None, images.shape[1]):
        images = pixels.resample(images, tf.eye(3, batch_shape=[tf.shape(u)[0]]), size)
    if operation.table:
        shape = [tf.shape(u)[0], 3, 256]
        counts = pixels.histograms(images, operation.histogram(u)) if operation.histogram else tf.zeros(shape, tf.int32)
        images = pixels.lookup(images, operation.table(u, counts))
    if operation.colour:
        images = pixels.recolour(images, operation.colour(u, pixels.means(images)))
    return tf.cast(images, tf.float32)
