"""Fused augmentation: whatever the recipe, one resample and one colour matrix for each picture.

Geometric operations are 3x3 matrices and colour operations 3x4 matrices; a recipe such as
`crop(area=(0.35, 1)) | flip | rotate(15) | color(0.2)` is composed, left to right, before a pixel is touched.
All randomness comes in from outside as uniform numbers, so a picture depends on (seed, epoch, example) only.
"""

from typing import Any

import keras
import tensorflow as tf

from kerasft import spec as specs
from kerasft.augment import operations
from kerasft.augment.operations import Colour, Geometric, affine
from kerasft.errors import UserError
from kerasft.spec import Spec


class Augment(keras.layers.Layer):
    """Applies composed operations to a batch: one resample, then one colour matrix.

    Colours are clipped to 0..255 once, at the end, not after each operation; what the resample needs from
    outside the picture is mirrored.

    Args:
        composed: Geometric and Colour operations, in order.
        layers: Keras layers to run afterwards; they draw their own random numbers.
    """

    def __init__(self, composed: tuple = (), layers: tuple = (), **kwargs: Any):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.geometric = tuple(op for op in composed if isinstance(op, Geometric))
        self.colour = tuple(op for op in composed if isinstance(op, Colour))
        self.layers = tuple(layers)
        self.draws = sum(op.draws for op in (*self.geometric, *self.colour))

    @property
    def stateless(self) -> bool:
        """Whether all of the randomness comes from the draws."""
        return not self.layers

    def call(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Augments a batch.

        Args:
            images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
            draws: float32 [N, self.draws], uniform in [0, 1).

        Returns:
            float32 [N, S, S, 3] in 0..255.
        """
        images = tf.cast(images, tf.float32)
        parts = tf.split(draws, [op.draws for op in (*self.geometric, *self.colour)], axis=1) if self.draws else []
        if self.geometric:
            images = _resample(images, _product([op.matrix(u) for op, u in zip(self.geometric, parts)]))
        if self.colour:
            images = _recolour(images, self.colour, parts[len(self.geometric) :])
        for layer in self.layers:
            images = layer(images, training=True)
        return images


def build(recipe: tuple[Spec, ...]) -> Augment:
    """Turns `--augment` Specs into a layer; Keras's augmentation layers (`RandomFlip` ...) may be named too.

    Raises:
        UserError: for an unknown name or a wrong argument.
    """
    composed, layers = [], []
    ours = specs.choices(operations)
    keras_layers = specs.choices(keras.layers, keras.layers.RandomFlip.__bases__[0])
    for item in recipe:
        made = specs.build(item, "--augment", ours, keras_layers)
        if isinstance(made, keras.layers.Layer):
            layers.append(made)
        elif isinstance(made, (Geometric, Colour)):
            composed.append(made)
        elif isinstance(made, tuple) and all(isinstance(part, (Geometric, Colour)) for part in made):
            composed += made
        else:
            raise UserError(f"--augment: {item.name} must give an augmentation. Received: {type(made).__name__}")
    return Augment(tuple(composed), tuple(layers))


def _product(matrices: list[tf.Tensor]) -> tf.Tensor:
    """float32 [N, 3, 3]: what is applied first stands first, since each maps output to input."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = result @ matrix
    return result


def _resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Bilinear resample of [N, H, W, 3] by float32 [N, 3, 3], mirrored past the edges."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    # The raw operation speaks in pixel centres: the middle of the picture is at (side - 1) / 2.
    to_half = affine(2 / width, 0, 1 / width - 1, 0, 2 / height, 1 / height - 1)
    to_pixel = affine(width / 2, 0, (width - 1) / 2, 0, height / 2, (height - 1) / 2)
    pixel = tf.reshape(to_pixel @ matrices @ to_half, [-1, 9])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=pixel[:, :8],
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _recolour(images: tf.Tensor, colours: tuple[Colour, ...], draws: list[tf.Tensor]) -> tf.Tensor:
    """Composes the colour operations, left to right, and applies them once; clips to 0..255."""
    mean = tf.reduce_mean(images, axis=[1, 2])
    total = tf.eye(3, 4, batch_shape=[tf.shape(images)[0]])
    for operation, u in zip(colours, draws):
        # The mean of a linear map is the map of the mean: no further pass over the pixels.
        step = operation.matrix(u, tf.linalg.matvec(total[:, :, :3], mean) + total[:, :, 3])
        total = step[:, :, :3] @ total + tf.pad(step[:, :, 3:], [[0, 0], [0, 0], [3, 0]])
    shape = tf.shape(images)
    flat = tf.reshape(images, [shape[0], -1, 3])
    coloured = tf.matmul(flat, total[:, :, :3], transpose_b=True) + total[:, None, :, 3]
    return tf.clip_by_value(tf.reshape(coloured, shape), 0.0, 255.0)
