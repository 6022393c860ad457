"""The network of a run: pictures, preprocessing, backbone, pooled features, head, logits, in one flat graph."""

from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import backbones, heads
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


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
        return self.model.layers[names.index("standardise") : names.index("logits") + 1]


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
        logits = keras.layers.Normalization(axis=-1, invert=True, dtype="float32", name="values")(logits)
    names = tuple(operation.name for operation in backbone.model.operations)
    cuts = backbones.cut_points(backbone.model)
    model = keras.Model(backbone.model.inputs[0], logits, name=f"kerasft_{keras_name(backbone.name)}")
    return Network(model, backbone.name, task, backbone.size, backbone.pretrained, head_init, names, cuts)


def in_precision(network: Network, policy: str) -> Network:
    """The same network, weights and all, with a backbone that computes in another precision.

    Weights stay float32 (Micikevicius et al. 2018), and so do the layers that prepare the pixels (8 bits do not
    bear to be divided in bfloat16), and the head with all outputs. The network itself where nothing is to change.

    Args:
        policy: `float32`, `mixed_bfloat16` or `mixed_float16` (keras.io/api/mixed_precision).
    """
    if {layer.dtype_policy.name for layer in network.model.layers} | {"float32"} == {policy, "float32"}:
        return network
    backbone = set(network.backbone)
    head = {layer.name for layer in network.model.layers} - backbone
    exact = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)

    def copied(operation: keras.Operation) -> keras.Operation:
        config = operation.get_config()
        if isinstance(operation, keras.Layer) and not isinstance(operation, exact):
            config["dtype"] = "float32" if operation.name in head else policy
        return type(operation).from_config(config)

    inputs = keras.Input(network.model.inputs[0].shape[1:], name=network.model.inputs[0].name)
    plain = keras.Model(network.model.inputs[0], network.model.output)  # without optimizer and loss
    model = keras.models.clone_model(plain, inputs, clone_function=copied, recursive=True)
    model.set_weights(network.model.get_weights())
    backbones.refresh(model)
    return network._replace(model=keras.Model(inputs, model.output, name=network.model.name))


def resized(network: Network, size: int) -> keras.Model:
    """The network's own layers on pictures of another size, float32 [N, size, size, 3]: one set of weights.

    Raises:
        UserError: layers of the network are made for its own size.
    """

    def same(operation: keras.Operation) -> keras.Operation:
        if isinstance(operation, keras.Sequential):  # ConvNeXt's stem: it remembers the size, its layers do not
            return keras.Sequential(operation.layers, name=operation.name)
        return operation

    if size == network.size:
        return network.model
    inputs = keras.Input((size, size, 3), name=network.model.inputs[0].name)
    plain = keras.Model(network.model.inputs[0], network.model.output, name=network.model.name)
    try:
        return keras.models.clone_model(plain, inputs, clone_function=same)
    except ValueError as error:
        rule = f"layers of {network.name} fit pictures of {network.size} pixels, not of this size; leave image_size="
        raise UserError(f"--phases: {rule}. Received: image_size={size}") from error


def set_pixel_statistics(network: Network, mean: np.ndarray, variance: np.ndarray) -> None:
    """Sets what `--preprocessing=dataset` standardises pictures with.

    To be called whenever a run starts or goes on, before the first picture: the layer holds numbers, not weights.

    Args:
        network: as `build` gave it.
        mean, variance: float [3], by channel (RGB) over the training pictures, in 0..255.
    """
    layer = network.model.get_layer("preprocess")
    deviation = np.sqrt(np.maximum(variance, 1.0))  # of a channel that is all one value, say
    layer.scale, layer.offset = (1 / deviation).tolist(), (-np.asarray(mean) / deviation).tolist()


def keras_name(text: str) -> str:
    """Letters, digits and underscores only, as Keras wants names."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
