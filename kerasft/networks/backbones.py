"""Backbones: keras.applications constructors and saved models, with preprocessing inside and cut points."""

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import bundled, layer_names, saved_files
from kerasft.settings import spec as specs
from kerasft.settings.config import is_file
from kerasft.settings.errors import UserError, did_you_mean, one_of

# Module of keras.applications -> what its networks make of RGB in 0..255 (keras.io/api/applications): tf is -1..1,
# torch standardised with ImageNet's statistics, caffe BGR less ImageNet's mean.
_MODES = {
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "densenet": "torch",
    "efficientnet": "torch",
    "efficientnet_v2": "torch",
    "convnext": "torch",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
    "inception_v3": "tf",
    "inception_resnet_v2": "tf",
    "nasnet": "tf",
}
_INSIDE = ("mobilenet_v3", "efficientnet", "efficientnet_v2", "convnext")  # begin with layers of their own for it
_SIZES = {  # of the pictures that a family was trained on, where that is not 224
    "Xception": 299,
    "InceptionV3": 299,
    "InceptionResNetV2": 299,
    "NASNetLarge": 331,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384,
    "EfficientNetV2M": 480,
    "EfficientNetV2L": 480,
}
_OURS = {  # arguments of the constructors that are not the user's -> where to look
    **dict.fromkeys(("weights", "input_tensor", "input_shape"), "--weights, --image_size"),
    # The dropouts stand before the classifier that is left out, so they would do nothing.
    **dict.fromkeys(
        ("include_top", "pooling", "classes", "classifier_activation", "dropout", "dropout_rate"), "--head"
    ),
    "include_preprocessing": "--preprocessing",
}
_IMAGENET_MEAN, _IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Backbone(NamedTuple):
    """A network from pictures to features.

    Attributes:
        model: float32 [N, S, S, 3], RGB in 0..255, to features [N, H, W, C] or [N, C].
        name: what the user called it.
        size: S.
        pretrained: whether its weights come from somewhere.
    """

    model: keras.Model
    name: str
    size: int
    pretrained: bool


def catalogue() -> dict[str, Callable]:
    """The constructors that `--backbone` may name."""
    functions = {name: value for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    return {name: value for name, value in functions.items() if value.__module__.rpartition(".")[2] in _MODES}


def own_size(backbone: str, weights: str) -> int | None:
    """Side of the pictures that a constructor's weights were trained on; None for a saved model.

    Raises:
        UserError: an unknown name.
    """
    if is_file(backbone):
        return None
    if weights == "bundled":
        return bundled.SIZE
    name = specs.resolve(specs.parse_one(backbone, "--backbone"), "--backbone", catalogue()).__name__
    return _SIZES.get(name, 224)


def load(backbone: str, weights: str, size: int | None, preprocessing: str = "auto") -> Backbone:
    """Builds the backbone that `--backbone`, `--weights`, `--image_size` and `--preprocessing` name.

    Under `--preprocessing=dataset` everything is NaN until `model.set_pixel_statistics` is called.

    Raises:
        UserError: an unknown name or argument, a weights file that is missing or does not fit, no network.
    """
    if preprocessing not in (choices := ("auto", "dataset", *_MODES)):
        near = did_you_mean(preprocessing, choices)
        raise UserError(f"--preprocessing: must be one of {one_of(choices)}{near}. Received: {preprocessing!r}")
    if is_file(backbone):
        if preprocessing != "auto":
            raise UserError(f"--preprocessing: a saved model brings its own; leave it. Received: {preprocessing!r}")
        return _saved(backbone, size)
    spec = specs.parse_one(backbone, "--backbone")
    constructor = specs.resolve(spec, "--backbone", catalogue())
    if taken := [name for name in _OURS if name in spec.kwargs]:
        raise UserError(f"--backbone: {taken[0]} is set by kerasft (see {_OURS[taken[0]]}). Received: '{spec}'")
    size = size or own_size(backbone, weights)
    ready = bundled.read(backbone) if weights == "bundled" else None
    if weights not in ("none", "imagenet", "bundled") and not Path(weights).is_file():
        rule = "must be imagenet, bundled, none or an existing weights file"
        raise UserError(f"--weights: {rule}. Received: {weights!r}")
    family = constructor.__module__.rpartition(".")[2]
    own = preprocessing in ("auto", family)
    inputs = keras.Input((size, size, 3), name="images")
    pixels = inputs if own and family in _INSIDE else _preprocessed(inputs, family if own else preprocessing)
    given = {"include_top": False, "weights": "imagenet" if weights == "imagenet" else None}
    given |= {"input_tensor": pixels, "input_shape": (size, size, 3)}
    if not own and "include_preprocessing" in inspect.signature(constructor).parameters:
        given["include_preprocessing"] = False
    try:
        with warnings.catch_warnings():  # of MobileNets, for a size that has no file of its own
            warnings.filterwarnings("ignore", message="(?s).*will be loaded as the default")
            model = specs.build(spec, "--backbone", catalogue(), reserved=_OURS, **given)
    except UserError:
        raise
    except Exception as error:
        if weights != "imagenet":
            raise
        reason = " ".join(str(error).split())[:200]
        ways = "give a weights file, --weights=none, or put Keras's file into ~/.keras/models"
        ways = f"--weights=bundled, {ways}" if bundled.fits(backbone) else ways
        raise UserError(
            f"--weights: imagenet could not be downloaded ({reason}); {ways}. Received: 'imagenet'"
        ) from error
    if ready:
        model.set_weights(ready)
    elif weights not in ("none", "imagenet"):
        saved_files.load_weights(model, weights, spec.name)
    if family == "efficientnet":
        _settle_efficientnet(model, weights, own)
    return Backbone(keras.Model(inputs, model.output), spec.name, size, weights != "none")


def _preprocessed(inputs: keras.KerasTensor, preprocessing: str) -> keras.KerasTensor:
    """RGB in 0..255 as a family's `preprocess_input` gives it, in layers that are saved with the model."""
    if preprocessing == "dataset":  # no weights: files of weights would not fit
        return keras.layers.Rescaling(np.nan, name=layer_names.PREPROCESS)(inputs)
    mode = _MODES[preprocessing]
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, -1.0, name=layer_names.PREPROCESS)(inputs)
    if mode == "torch":
        scale, offset = 1 / (255 * _IMAGENET_STD), -_IMAGENET_MEAN / _IMAGENET_STD
        return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=layer_names.PREPROCESS)(inputs)
    means = [-103.939, -116.779, -123.68]  # of BGR
    return keras.layers.Rescaling(1.0, means, name=layer_names.PREPROCESS)(keras.ops.flip(inputs, axis=-1))


def _settle_efficientnet(model: keras.Model, weights: str, own: bool) -> None:
    """Makes EfficientNet's first layers do the same whatever the weights, or nothing if the pixels come prepared.

    They are x / 255, a Normalization layer whose variance in Keras's files is ImageNet's deviation, and for
    `imagenet` only a second rescaling, by 1 / sqrt(deviation). Everything is folded into the Normalization layer;
    one from a file that holds other numbers is left alone.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance = np.ravel(layer.adapt_mean), np.ravel(layer.adapt_variance)
    if not own:
        mean, variance = np.zeros(3), 1 / (255**2 * (_IMAGENET_STD if weights == "imagenet" else np.ones(3)))
    elif weights == "none":
        mean, variance = _IMAGENET_MEAN, _IMAGENET_STD**2
    elif weights != "imagenet" and np.allclose(variance, _IMAGENET_STD, atol=1e-3):
        variance = variance * _IMAGENET_STD
    layer.adapt_mean.assign(mean.reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(variance.reshape(layer.adapt_variance.shape))
    layer.finalize_state()


def _saved(path: str, size: int | None) -> Backbone:
    """A `.keras` or `.h5` model without its old head: that of a run, or a last Dense and what follows it."""
    model = saved_files.load_model(path)
    if not hasattr(model, "operations") or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(f"--backbone: must be a functional model of one input and one output. Received: {path!r}")
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] != 3:
        raise UserError(f"--backbone: must take pictures [N, S, S, 3]; this one takes {shape}. Received: {path!r}")
    side = size or shape[1]
    if side is None or shape[1] not in (None, side) or shape[2] not in (None, side):
        raise UserError(f"--image_size: this model takes {shape[1]}x{shape[2]} pictures. Received: {size}")
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    if not any(isinstance(layer, kinds) for layer in model.layers[:6]):
        rule = "must begin with a Rescaling or Normalization layer, so that it takes RGB in 0..255"
        raise UserError(f"--backbone: {rule}. Received: {path!r}")
    output = _without_classifier(model)
    inputs = keras.Input((side, side, 3), name="images")
    trunk = keras.Model(model.inputs[0], output)
    flat = keras.models.clone_model(trunk, input_tensors=inputs)
    flat.set_weights(trunk.get_weights())
    refresh(flat)
    return Backbone(keras.Model(inputs, flat.output), Path(path).stem, side, True)


def _without_classifier(model: keras.Model) -> keras.KerasTensor:
    """What goes into a run's head, or into a last Dense if only activations and dropout follow it; else the output."""
    names = [operation.name for operation in model.operations]
    if layer_names.FEATURES in names and layer_names.STANDARDISE in names:
        return model.get_layer(layer_names.FEATURES).input
    if len(model.output.shape) == 2:
        for operation in reversed(model.operations):
            if isinstance(operation, keras.layers.Dense):
                return operation.input
            if not isinstance(operation, (keras.layers.Activation, keras.layers.Softmax, keras.layers.Dropout)):
                break
    return model.output


def refresh(model: keras.Model) -> None:
    """Lets Normalization layers see weights that were assigned: they work on copies of their own."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def cut_points(model: keras.Model) -> tuple[str, ...]:
    """Names of the operations whose one output is all that later ones use of what came before, first to last.

    These are the nodes that every path from input to output passes (single-node separators of the graph). Most
    are layers; in ConvNeXt the residual sums are plain operations.
    """
    place = {id(operation): i for i, operation in enumerate(model.operations)}
    reach = [0] * len(place)  # the last place at which an operation's output is used
    for i, operation in enumerate(model.operations):
        for tensor in _inputs(operation):
            reach[place[id(tensor._keras_history.operation)]] = i
    cuts, farthest = [], 0
    for i, operation in enumerate(model.operations):
        if farthest <= i:
            cuts.append(operation.name)
        farthest = max(farthest, reach[i])
    return tuple(cuts)


def _inputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    if isinstance(operation, keras.layers.InputLayer):
        return []
    return keras.tree.flatten(operation.input)
