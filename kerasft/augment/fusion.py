"""Fusion: whatever a recipe, one resample, one table and one colour matrix for each picture.

Operations are composed as 3x3 matrices, 256-entry tables and 3x4 matrices before a pixel is touched. Among their
kind they keep the order of the recipe; between the kinds it is geometry, then tables, then colour matrices.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kerasft.augment import lookup_tables, pixels


class Operation(NamedTuple):
    """What a named augmentation does, in up to three forms, all from the same draws u, float32 [N, draws] in [0, 1).

    Attributes:
        draws: how many numbers it takes for each picture.
        geometry: u to float32 [N, 3, 3], output to input, in units of half the picture.
        table: u and the histogram, int32 [N, 3, 256], to a table, int32 [N, 3 or 1, 256].
        histogram: u to bool [N]: for which pictures the table needs the histogram (it is zeros for others).
        colour: u and the mean RGB, float32 [N, 3], to float32 [N or 1, 3, 4] on RGB in 0..255.
    """

    draws: int
    geometry: Callable[[tf.Tensor], tf.Tensor] | None = None
    table: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    histogram: Callable[[tf.Tensor], tf.Tensor] | None = None
    colour: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None


class Pass(NamedTuple):
    """An augmentation that goes over the pixels itself, after what is fused.

    Attributes:
        draws: how many numbers it takes for each picture.
        apply: float32 [N, S, S, 3] in 0..255 and draws, float32 [N, draws] in [0, 1), to pictures of that form.
    """

    draws: int
    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def in_turn(operations: tuple[Operation, ...], *, shared: int | None = None) -> Operation:
    """One Operation that does several, left to right.

    Args:
        operations: each takes its own columns of the draws, or,
        shared: a number of draws that all of them see.
    """
    sizes = [operation.draws for operation in operations]

    def having(form: str, u: tf.Tensor) -> list[tuple[Operation, tf.Tensor]]:
        parts = [u] * len(sizes) if shared is not None else tf.split(u, sizes, axis=1)
        return [(one, part) for one, part in zip(operations, parts) if getattr(one, form)]

    def geometry(u: tf.Tensor) -> tf.Tensor:
        first, *others = (one.geometry(part) for one, part in having("geometry", u))
        for matrix in others:  # each maps output to input, so what is applied first stands first
            first = first @ matrix
        return first

    def table(u: tf.Tensor, histogram: tf.Tensor) -> tf.Tensor:
        (first, part), *others = having("table", u)
        total = tf.broadcast_to(first.table(part, histogram), tf.shape(histogram))
        for one, part in others:
            seen = lookup_tables.through(histogram, total) if one.histogram else histogram
            total = lookup_tables.after(total, one.table(part, seen))
        return total

    def histogram(u: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(tf.stack([one.histogram(part) for one, part in having("histogram", u)]), axis=0)

    def colour(u: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
        total = tf.eye(3, 4, batch_shape=[tf.shape(u)[0]])
        for one, part in having("colour", u):
            # The mean of a linear map is the map of the mean: no further pass over the pixels.
            step = one.colour(part, tf.linalg.matvec(total[:, :, :3], mean) + total[:, :, 3])
            total = step[:, :, :3] @ total + tf.pad(step[:, :, 3:], [[0, 0], [0, 0], [3, 0]])
        return total

    forms = {"geometry": geometry, "table": table, "histogram": histogram, "colour": colour}
    given = {name: form for name, form in forms.items() if any(getattr(one, name) for one in operations)}
    return Operation(sum(sizes) if shared is None else shared, **given)


def fuse(images: tf.Tensor, operation: Operation, u: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Applies an Operation to a batch.

    Args:
        images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
        u: float32 [N, operation.draws], uniform in [0, 1).
        size: side of what is returned, T; by default S.

    Returns:
        float32 [N, T, T, 3] in 0..255; whole numbers where a table was the last that touched them.
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
