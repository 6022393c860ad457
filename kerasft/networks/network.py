"""The network of a run: preprocessing, backbone, pooled features, head and logits, in one flat graph."""

from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import backbones, candidates, flip_averaging, heads, layer_names, saved_files
from kerasft.settings.backbone_list import is_file
from kerasft.settings.config import Config


class Network(NamedTuple):
    """A model and the names of its layers.

    Attributes:
        model: float32 [N, S, S, 3], RGB in 0..255, to float32 [N, C] logits or [N, D] values.
        name: the backbone's name.
        task: `single_label`, `multi_label` or `regression`.
        size: side of the images in pixels, S.
        pretrained: whether the weights of the backbone are not random.
        head_init: `--head_init`, without `auto`.
        backbone: names of the operations of the backbone (layers, mostly), from input to output.
        cuts: those of them that are cut points (see `backbones.find_cut_points`).
        depths: those of them whose pooled outputs the head sees; the last is the backbone's output.
        tta: `flip` where what is served is the mean over an image and its mirror image, else `none`.
        notes: what the user should know of how a saved model was opened, a sentence each.
        head: `--head`, of which the head was built.
    """

    model: keras.Model
    name: str
    task: str
    size: int
    pretrained: bool
    head_init: str
    backbone: tuple[str, ...]
    cuts: tuple[str, ...]
    depths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tta: str = "none"
    head: str = "linear"

    def served(self) -> keras.Model:
        """Returns the model whose outputs are evaluated and served: `model`, or its mean over mirror images."""
        return flip_averaging.average_mirrored(self.model) if self.tta == "flip" else self.model

    def model_before(self, layer: str) -> keras.Model:
        """Returns the model from images to the input of a layer, named by `layer`."""
        return keras.Model(self.model.inputs[0], self.model.get_layer(layer).input)

    def head_layers(self) -> list[keras.Layer]:
        """Returns the layers of the head in order: a chain from `standardise` to `logits`."""
        names = [layer.name for layer in self.model.layers]
        return self.model.layers[names.index(layer_names.STANDARDISE) : names.index(layer_names.LOGITS) + 1]


def build(config: Config, outputs: int, task: str) -> Network:
    """Builds the network that a Config names, with a new head.

    Args:
        outputs: number of classes or of targets.
        task: `single_label`, `multi_label` or `regression`.

    Raises:
        UserError: a flag of the backbone or of the head is wrong, or `--backbone` names several.
    """
    config = candidates.one(config)
    saved_files.register(config.allow_imports if is_file(config.backbone) else ())
    backbone = backbones.load(config.backbone, config.weights, config.image_size, config.preprocessing)
    head_init = heads.resolve_head_init(config.head_init, backbone.pretrained)
    output = heads.build_outputs(config.head, head_init, backbone.model.output, outputs, task)
    names = tuple(operation.name for operation in backbone.model.operations)
    cuts = backbones.find_cut_points(backbone.model)
    model = keras.Model(backbone.model.inputs[0], output, name=f"kerasft_{keras_name(backbone.name)}")
    known = backbone.name, task, backbone.size, backbone.pretrained, head_init
    return Network(model, *known, names, cuts, names[-1:], backbone.notes, head=config.head)


def set_pixel_statistics(network: Network, mean: np.ndarray, variance: np.ndarray) -> None:
    """Sets the statistics with which `--preprocessing=dataset` standardises images.

    Every run, new or resumed, must call it before the first image: the layer stores them as numbers, not as weights.

    Args:
        network: that `build` returned.
        mean, variance: float [3], by channel (RGB) over the training images, in 0..255.
    """
    layer = network.model.get_layer(layer_names.PREPROCESS)
    # A channel may have one value only, so the variance is at least 1.
    deviation = np.sqrt(np.maximum(variance, 1.0))
    layer.scale, layer.offset = (1 / deviation).tolist(), (-np.asarray(mean) / deviation).tolist()


def keras_name(text: str) -> str:
    """Returns a name of letters, digits and underscores only, as Keras requires."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
