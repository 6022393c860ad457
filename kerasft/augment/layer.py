"""The layer that a recipe such as `crop(area=(0.35, 1)) | flip | randaugment(2, 9) | erase(0.25) | mixup(0.2)` becomes.

All randomness comes in from outside as uniform numbers, so a picture depends on (seed, epoch, example) only.
"""

from typing import Any

import keras
import tensorflow as tf

from kerasft.augment import erasing, mixing, operations, pointwise, policies
from kerasft.augment.fusion import Operation, Pass, fuse, in_turn
from kerasft.augment.mixing import Mix
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

_MODULES = (operations, pointwise, policies, erasing, mixing)


class Augment(keras.layers.Layer):
    """Applies a recipe to a batch: what is fused, then what goes over the pixels itself, then Keras's layers.

    Colours are clipped to 0..255 once, at the end of what is fused, not after each operation; what the resample needs
    from outside the picture is mirrored. `mix` is a step of its own, for it needs the labels.

    Args:
        operations: in order.
        passes: in order, after the operations.
        layers: Keras layers to run afterwards; they draw their own random numbers.
        mixes: ways to mix pictures with each other, of which each picture gets one.
        classes: number of the labels' classes, where they are int32.
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
        self.fused = in_turn(operations)
        self.passes, self.layers, self.mixes, self.classes = passes, tuple(layers), mixes, classes
        self.sizes = [self.fused.draws, *(one.draws for one in passes), mixing.draws(mixes)]
        self.draws = sum(self.sizes)

    @property
    def stateless(self) -> bool:
        """Whether all of the randomness comes from the draws."""
        return not self.layers

    def call(self, images: tf.Tensor, draws: tf.Tensor, size: int | None = None) -> tf.Tensor:
        """Augments a batch, picture by picture.

        Args:
            images: uint8 or float32 [N, S, S, 3], RGB in 0..255.
            draws: float32 [N, self.draws], uniform in [0, 1).
            size: side of what is returned, T; by default S.

        Returns:
            float32 [N, T, T, 3] in 0..255.
        """
        first, *others, _ = tf.split(draws, self.sizes, axis=1)
        images = fuse(images, self.fused, first, size)
        for one, part in zip(self.passes, others):
            images = one.apply(images, part)
        for layer in self.layers:
            images = layer(images, training=True)
        return images

    def mix(
        self, draws: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, ...]:
        """Mixes the pictures of a batch with each other, after `call`; without `mixup` and `cutmix` changes nothing.

        Args:
            draws: float32 [N, self.draws], those of `call`.
            images: float32 [N, S, S, 3], augmented.
            labels: int32 [N] or float32 [N, C].
            weights: float32 [N] of the examples, or None.

        Returns:
            Images, labels and, where given, weights; int32 labels have become float32 [N, self.classes].
        """
        if self.mixes:
            labels = tf.one_hot(labels, self.classes) if labels.dtype.is_integer else labels
            images, labels, weights = mixing.mix(self.mixes, draws[:, -self.sizes[-1] :], images, labels, weights)
        return (images, labels) if weights is None else (images, labels, weights)


def build(recipe: tuple[Spec, ...], task: str = "single_label", classes: int | None = None) -> Augment:
    """Turns `--augment` Specs into a layer; Keras's augmentation layers (`RandomFlip` ...) may be named too.

    Args:
        recipe: the Specs; Operations keep their order, whatever stands between them.
        task: what the labels are, for `mixup` and `cutmix`.
        classes: their number.

    Raises:
        UserError: for an unknown name or a wrong argument, and where values are to be mixed.
    """
    made: dict[type, list] = {Operation: [], Pass: [], keras.layers.Layer: [], Mix: []}
    ours = {name: function for module in _MODULES for name, function in specs.choices(module).items()}
    keras_layers = specs.choices(keras.layers, keras.layers.RandomFlip.__bases__[0])
    for item in recipe:
        result = specs.build(item, "--augment", ours, keras_layers, outside=tuple(made))
        parts = result if type(result) is tuple else (result,)
        for part in parts:
            kind = next((kind for kind in made if isinstance(part, kind)), None)
            if kind is None:
                raise UserError(f"--augment: {item.name} must give an augmentation. Received: {type(result).__name__}")
            if kind is Mix and task == "regression":
                raise UserError(
                    f"--augment: {item.name} mixes labels, which regression does not have. Received: '{item}'"
                )
            made[kind].append(part)
    return Augment(*map(tuple, made.values()), classes=classes)
