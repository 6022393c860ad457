"""Backbones: constructors of keras.applications and saved models, with preprocessing inside; and their cut points."""

import inspect
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import bundled, hub, pixel_scaling, saved_backbone, saved_files
from kerasft.settings import spec as specs
from kerasft.settings.backbone_list import is_file, is_hub
from kerasft.settings.errors import UserError, did_you_mean, one_of

# Families whose networks begin with preprocessing layers of their own.
_PREPROCESS_INSIDE = ("mobilenet_v3", "efficientnet", "efficientnet_v2", "convnext")
# The side of the images that a network was trained on, where that is not 224 pixels.
_NATIVE_SIZES = {
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
# Arguments of the constructors that `--backbone` must not set, and the flags that set them.
_RESERVED_ARGUMENTS = {
    **dict.fromkeys(("weights", "input_tensor", "input_shape"), "--weights, --image_size"),
    # Dropout comes before the classifier, which is left out, so it would have no effect.
    **dict.fromkeys(
        ("include_top", "pooling", "classes", "classifier_activation", "dropout", "dropout_rate"), "--head"
    ),
    "include_preprocessing": "--preprocessing",
}


class DownloadError(UserError):
    """Raised where Keras cannot download the ImageNet weights of a network."""


class Backbone(NamedTuple):
    """A network from images to features.

    Attributes:
        model: float32 [N, S, S, 3], RGB in 0..255, to features [N, H, W, C], [N, T, C] (tokens) or [N, C].
        name: as the user named it.
        size: side of the images in pixels, S.
        pretrained: whether its weights are not random.
        notes: what the user should know of how a saved model was opened, a sentence each.
    """

    model: keras.Model
    name: str
    size: int
    pretrained: bool
    notes: tuple[str, ...] = ()


def list_constructors() -> dict[str, Callable]:
    """Returns the constructors that `--backbone` may name."""
    functions = {name: value for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    return {
        name: value for name, value in functions.items() if value.__module__.rpartition(".")[2] in pixel_scaling.MODES
    }


def native_size(backbone: str, weights: str) -> int | None:
    """Returns the side of the images that the weights of a constructor were trained on; None for a saved model or a preset.

    Raises:
        UserError: an unknown name.
    """
    if is_file(backbone) or is_hub(backbone):
        return None
    if weights == "bundled":
        return bundled.SIZE
    name = specs.resolve(specs.parse_one(backbone, "--backbone"), "--backbone", list_constructors()).__name__
    return _NATIVE_SIZES.get(name, 224)


def load(backbone: str, weights: str, size: int | None, preprocessing: str = "auto") -> Backbone:
    """Builds the backbone that `--backbone`, `--weights`, `--image_size` and `--preprocessing` name.

    Under `--preprocessing=dataset`, all outputs are NaN until `network.set_pixel_statistics` is called.

    Raises:
        UserError: an unknown name or argument, a weights file that is missing or does not fit, or no internet connection.
    """
    if preprocessing not in (choices := ("auto", "dataset", *pixel_scaling.MODES)):
        near = did_you_mean(preprocessing, choices)
        raise UserError(f"--preprocessing: must be one of {one_of(choices)}{near}. Received: {preprocessing!r}")
    if is_hub(backbone):
        return Backbone(*hub.load(backbone, weights, size, preprocessing))
    if is_file(backbone):
        model, notes = saved_backbone.load(backbone, size, preprocessing)
        return Backbone(model, Path(backbone).stem, model.input_shape[1], True, notes)
    spec = specs.parse_one(backbone, "--backbone")
    constructor = specs.resolve(spec, "--backbone", list_constructors())
    if reserved := [name for name in _RESERVED_ARGUMENTS if name in spec.kwargs]:
        flags = _RESERVED_ARGUMENTS[reserved[0]]
        raise UserError(f"--backbone: {reserved[0]} is set by kerasft (see {flags}). Received: '{spec}'")
    size = size or native_size(backbone, weights)
    bundled_weights = bundled.read(backbone) if weights == "bundled" else None
    if weights not in ("none", "imagenet", "bundled") and not Path(weights).is_file():
        rule = "must be imagenet, bundled, none or an existing weights file"
        raise UserError(f"--weights: {rule}. Received: {weights!r}")
    family = constructor.__module__.rpartition(".")[2]
    is_native = preprocessing in ("auto", family)
    inputs = keras.Input((size, size, 3), name="images")
    if is_native and family in _PREPROCESS_INSIDE:
        pixels = inputs
    else:
        pixels = pixel_scaling.add(inputs, family if is_native else preprocessing)
    arguments = {"include_top": False, "weights": "imagenet" if weights == "imagenet" else None}
    arguments |= {"input_tensor": pixels, "input_shape": (size, size, 3)}
    if not is_native and "include_preprocessing" in inspect.signature(constructor).parameters:
        arguments["include_preprocessing"] = False
    try:
        with warnings.catch_warnings():
            # MobileNets warn of a size that has no weights file of its own.
            warnings.filterwarnings("ignore", message="(?s).*will be loaded as the default")
            model = specs.build(spec, "--backbone", list_constructors(), reserved=_RESERVED_ARGUMENTS, **arguments)
    except UserError:
        raise
    except Exception as error:
        if weights != "imagenet":
            raise
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        ways = "name a weights file, choose --weights=none, or put Keras's file into ~/.keras/models"
        ways = f"choose --weights=bundled, {ways}" if bundled.fits(backbone) else ways
        raise DownloadError(
            f"--weights: imagenet could not be downloaded ({reason}); {ways}. Received: 'imagenet'"
        ) from error
    if bundled_weights:
        model.set_weights(bundled_weights)
    elif weights not in ("none", "imagenet"):
        saved_files.load_weights(model, weights, spec.name)
    if family == "efficientnet":
        _unify_efficientnet(model, weights, is_native)
    return Backbone(keras.Model(inputs, model.output), spec.name, size, weights != "none")


def _unify_efficientnet(model: keras.Model, weights: str, is_native: bool) -> None:
    """Makes the first layers of an EfficientNet preprocess in the same way for all weights.

    These layers are x / 255 and a Normalization layer; in Keras's files its variance is the standard deviation of
    ImageNet. For `imagenet` only, Keras adds a second rescaling, by 1 / sqrt(deviation). All of it is folded into the
    Normalization layer. A weights file with other numbers in that layer is not changed.

    Args:
        is_native: False if the pixels are preprocessed before; the layers then do nothing.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance = np.ravel(layer.adapt_mean), np.ravel(layer.adapt_variance)
    if not is_native:
        mean, variance = (
            np.zeros(3),
            1 / (255**2 * (pixel_scaling.IMAGENET_STD if weights == "imagenet" else np.ones(3))),
        )
    elif weights == "none":
        mean, variance = pixel_scaling.IMAGENET_MEAN, pixel_scaling.IMAGENET_STD**2
    elif weights != "imagenet" and np.allclose(variance, pixel_scaling.IMAGENET_STD, atol=1e-3):
        variance = variance * pixel_scaling.IMAGENET_STD
    layer.adapt_mean.assign(mean.reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(variance.reshape(layer.adapt_variance.shape))
    layer.finalize_state()


def refresh_normalization(model: keras.Model) -> None:
    """Makes Normalization layers use weights that were assigned. They compute with copies of their own."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def find_cut_points(model: keras.Model) -> tuple[str, ...]:
    """Finds the operations that every path from input to output passes, first to last; returns their names.

    After such an operation, a network needs nothing but its output (single-node separators of the graph). Most are
    layers; in ConvNeXt the residual sums are plain operations.
    """
    index = {id(operation): i for i, operation in enumerate(model.operations)}
    # For each operation, the index of the last operation that uses its output.
    last_use = [0] * len(index)
    for i, operation in enumerate(model.operations):
        for tensor in _input_tensors(operation):
            last_use[index[id(tensor._keras_history.operation)]] = i
    names, open_until = [], 0
    for i, operation in enumerate(model.operations):
        # Behind an operation of several outputs, a network needs more than one tensor.
        if open_until <= i and isinstance(operation.output, keras.KerasTensor):
            names.append(operation.name)
        open_until = max(open_until, last_use[i])
    return tuple(names)


def _input_tensors(operation: keras.Operation) -> list[keras.KerasTensor]:
    if isinstance(operation, keras.layers.InputLayer):
        return []
    return keras.tree.flatten(operation.input)
