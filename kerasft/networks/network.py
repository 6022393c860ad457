"""The network of a run: pictures, preprocessing, backbone, pooled features, head, logits, in one flat graph."""

from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import backbones, heads, layer_names
from kerasft.settings.config import Config


class Network(NamedTuple):
    """A model and the names of its parts.

    Attributes:
        model: float32 [N, S, S, 3], RGB in 0..255, to float32 [N, C] logits or [N, D] values.
        name: the backbone's name.
        task: `single_label`, `multi_label` or `regression`.
        size: S.
        pretrained: whether the backbone's weights come from somewhere.
        head_init: `--head_init`, settled.
        backbone: names of the backbone's operations (layers, mostly), input to output.
        cuts: those of them that are cut points (see `backbones.cut_points`).
    """

    model: keras.Model
    name: str
    task: str
    size: int
    pretrained: bool
    head_init: str
    backbone: tuple[str, ...]
    cuts: tuple[str, ...]

    def part(self, layer: str) -> keras.Model:
        """Pictures to the input of the named layer."""
        return keras.Model(self.model.inputs[0], self.model.get_layer(layer).input)

    def head_layers(self) -> list[keras.Layer]:
        """The head's layers in order: a chain from `standardise` to `logits`."""
        names = [layer.name for layer in self.model.layers]
        return self.model.layers[names.index(layer_names.STANDARDISE) : names.index(layer_names.LOGITS) + 1]


def build(config: Config, outputs: int, task: str) -> Network:
    """Builds the network that a Config names, with fresh head.

    Args:
        outputs: number of classes or of targets.
        task: `single_label`, `multi_label` or `regression`.

    Raises:
        UserError: from the backbone's or the head's flags.
    """
    backbone = backbones.load(config.backbone, config.weights, config.image_size, config.preprocessing)
    head_init = heads.resolve_head_init(config.head_init, backbone.pretrained)
    logits = heads.build(config.head, head_init, backbone.model.output, outputs)
    if task == "regression":  # so that what trains is of the size of 1, whatever the targets' units
        logits = keras.layers.Normalization(axis=-1, invert=True, dtype="float32", name=layer_names.VALUES)(logits)
    names = tuple(operation.name for operation in backbone.model.operations)
    cuts = backbones.cut_points(backbone.model)
    model = keras.Model(backbone.model.inputs[0], logits, name=f"kerasft_{keras_name(backbone.name)}")
    return Network(model, backbone.name, task, backbone.size, backbone.pretrained, head_init, names, cuts)


def set_pixel_statistics(network: Network, mean: np.ndarray, variance: np.ndarray) -> None:
    """Sets what `--preprocessing=dataset` standardises pictures with.

    To be called whenever a run starts or goes on, before the first picture: the layer holds numbers, not weights.

    Args:
        network: as `build` gave it.
        mean, variance: float [3], by channel (RGB) over the training pictures, in 0..255.
    """
    layer = network.model.get_layer(layer_names.PREPROCESS)
    deviation = np.sqrt(np.maximum(variance, 1.0))  # of a channel that is all one value, say
    layer.scale, layer.offset = (1 / deviation).tolist(), (-np.asarray(mean) / deviation).tolist()


def keras_name(text: str) -> str:
    """Letters, digits and underscores only, as Keras wants names."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
