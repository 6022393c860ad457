"""The layer of a recipe such as `crop(area=(0.35, 1)) | flip | randaugment(2, 9) | erase(0.25) | mixup(0.2)`.

The caller passes all random numbers, so an augmented image depends on (seed, epoch, example) only.
"""

from typing import Any

import keras
import tensorflow as tf

from kerasft.augment import erasing, mixing, noise, operations, pointwise, policies
from kerasft.augment.fusion import Operation, Pass, compose, fuse
from kerasft.augment.mixing import Mix
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError, one_of
from kerasft.settings.spec import Spec

_MODULES = (operations, pointwise, policies, erasing, noise, mixing)
# These would mix images without their labels, which they look for in a dict.
_REFUSED_LAYERS = (keras.layers.MixUp, keras.layers.CutMix)
# Keras takes any other mode for one that flips nothing.
_FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")


class Augment(keras.layers.Layer):
    """Applies a recipe to a batch: fused operations, then passes over the pixels, then Keras layers.

    Colours are clipped to 0..255 once, after the fused operations, not after each of them. Pixels outside of the image are
    mirrored. `mix` is a separate step, because it needs the labels.

    Args:
        operations: fused, in this order.
        passes: applied after the operations, in this order.
        layers: Keras layers, applied last. They draw their own random numbers.
        mixes: ways to mix images with each other. Each image gets one of them.
        classes: number of classes, for int32 labels.
    """

    def __init__(
        self,
        operations: tuple[Operation, ...] = (),
        passes: tuple[Pass, ...] = (),
        layers: tuple[keras.layers.Layer, ...] = (),
        mixes: tuple[Mix, ...] = (),
        classes: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.fused = compose(operations)
        self.passes, self.layers, self.mixes, self.classes = passes, tuple(layers), mixes, classes
        self.sizes = [self.fused.draws, *(one.draws for one in passes), mixing.count_draws(mixes)]
        self.draws = sum(self.sizes)

    def find_resizing(self, size: int) -> tuple[keras.layers.Layer, tuple[int | None, ...]] | None:
        """Finds the first Keras layer that gives images of this side another shape, and that shape; None for none."""
        shape = (None, size, size, 3)
        for layer in self.layers:
            try:
                found = tuple(layer.compute_output_shape(shape))
            # A layer from outside may not tell its shape, or not all of it.
            except NotImplementedError:
                continue
            if any(given not in (None, wanted) for given, wanted in zip(found[1:], shape[1:])):
                return layer, found
        return None

    @property
    def stateless(self) -> bool:
        """Whether all random numbers come from the caller."""
        return not self.layers

    def call(self, images: tf.Tensor, draws: tf.Tensor, size: int | None = None) -> tf.Tensor:
        """Augments each image of a batch.

        Args:
            images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
            draws: float32 [N, self.draws], uniform in [0, 1).
            size: side of the returned images in pixels, T; by default S.

        Returns:
            float32 [N, T, T, 3] in 0..255.
        """
        fused_draws, *pass_draws, _ = tf.split(draws, self.sizes, axis=1)
        images = fuse(images, self.fused, fused_draws, size)
        for step, step_draws in zip(self.passes, pass_draws):
            images = step.apply(images, step_draws)
        for layer in self.layers:
            images = layer(images, training=True)
        return images

    def mix(
        self, draws: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, ...]:
        """Mixes the images of a batch with each other, after `call`. Without `mixup` and `cutmix` it changes nothing.

        Args:
            draws: float32 [N, self.draws], the same as for `call`.
            images: float32 [N, S, S, 3], augmented.
            labels: int32 [N] or float32 [N, C].
            weights: float32 [N] of the examples, or None.

        Returns:
            Images, labels and, if passed, weights. Mixed int32 labels become float32 [N, self.classes].
        """
        if self.mixes:
            labels = tf.one_hot(labels, self.classes) if labels.dtype.is_integer else labels
            images, labels, weights = mixing.mix(self.mixes, draws[:, -self.sizes[-1] :], images, labels, weights)
        return (images, labels) if weights is None else (images, labels, weights)


def build(recipe: tuple[Spec, ...], task: str = "single_label", classes: int | None = None) -> Augment:
    """Builds the layer of `--augment` Specs. They may name augmentation layers of Keras too, such as `RandomFlip`.

    Args:
        recipe: the Specs.
        task: `single_label`, `multi_label` or `regression`, for `mixup` and `cutmix`.
        classes: number of classes.

    Raises:
        UserError: an unknown name, a wrong argument, a Keras layer that mixes images, or `mixup` or `cutmix` under regression.
    """
    steps: dict[type, list] = {Operation: [], Pass: [], keras.layers.Layer: [], Mix: []}
    ours = {name: function for module in _MODULES for name, function in specs.choices(module).items()}
    keras_layers = specs.choices(keras.layers, keras.layers.RandomFlip.__bases__[0])
    keras_layers = {name: layer for name, layer in keras_layers.items() if layer not in _REFUSED_LAYERS}
    for item in recipe:
        result = specs.build(item, "--augment", ours, keras_layers, outside=tuple(steps))
        for step in result if type(result) is tuple else (result,):
            kind = next((kind for kind in steps if isinstance(step, kind)), None)
            if kind is None:
                raise UserError(f"--augment: {item.name} must give an augmentation. Received: {type(result).__name__}")
            if isinstance(step, _REFUSED_LAYERS):
                rule = f"{item.name} would mix images but not their labels; use mixup or cutmix"
                raise UserError(f"--augment: {rule}. Received: '{item}'")
            if isinstance(step, keras.layers.RandomFlip) and step.mode not in _FLIPS:
                raise UserError(f"--augment: mode must be one of {one_of(_FLIPS)}. Received: '{item}'")
            if kind is Mix and task == "regression":
                raise UserError(
                    f"--augment: {item.name} mixes labels, which regression does not have. Received: '{item}'"
                )
            steps[kind].append(step)
    return Augment(*map(tuple, steps.values()), classes=classes)
