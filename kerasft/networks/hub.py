"""`--backbone=hub:PRESET_OR_DIR`: the image networks of KerasHub, each with the preprocessing of its preset."""

import re
from typing import Any

import keras
import numpy as np

from kerasft.networks import hub_layers, saved_backbone
from kerasft.settings.errors import UserError, did_you_mean

# The side of the images in pixels, where neither the flag nor the preset says one.
DEFAULT_SIZE = 224

# How far an output of the opened network may be from KerasHub's own, relative to the largest one.
MAX_DIFFERENCE = 1e-4

# Networks whose first token stands for the whole image.
_WITH_CLASS_TOKEN = ("ViTBackbone", "DeiTBackbone", "DINOV2Backbone")


def load(
    backbone: str, weights: str, size: int | None, preprocessing: str
) -> tuple[keras.Model, str, int, bool, tuple[str, ...]]:
    """Loads a preset as a flat network: its encoder's blocks are layers of it.

    Where the network has a class token, the features are that token: [N, 1, C].

    Args:
        backbone: `hub:` and the name of a preset, its address (`kaggle://`, `hf://`), or a folder that
            `save_to_preset` wrote.
        weights: `none` for random ones, else those of the preset.
        size: side of the images; None for the preset's own.
        preprocessing: `auto` for that of the preset's image converter.

    Returns:
        The fields of `backbones.Backbone`.

    Raises:
        UserError: KerasHub is missing, there is no such preset, or it is no network for images of this size.
    """
    preset = backbone.removeprefix("hub:")
    if weights not in ("none", "imagenet", "auto"):
        rule = "must be auto (those of the preset) or none for a preset of KerasHub"
        raise UserError(f"--weights: {rule}. Received: {weights!r}")
    keras_hub = hub_layers.load(repr(backbone))
    model = _read(keras_hub, preset, size, weights != "none")
    _number(model)
    converter = _converter(keras_hub, preset) if preprocessing == "auto" else None
    shape = model.inputs[0].shape
    if len(model.inputs) != 1 or len(shape) != 4 or shape[-1] != 3:
        rule = f"must be a network for images [N, S, S, 3]; {type(model).__name__} takes {shape}"
        raise UserError(f"--backbone: {rule}. Received: {backbone!r}")
    own = converter.image_size[0] if converter is not None and converter.image_size else DEFAULT_SIZE
    side = shape[1] or size or own
    if shape[1] != shape[2] or size not in (None, side):
        raise UserError(f"--image_size: this preset takes images of {shape[1]}x{shape[2]} pixels. Received: {size}")
    scaled = model if converter is None else _with_scaling(model, converter, side)
    flat = saved_backbone.flatten(scaled, side, preprocessing, f"Received: {backbone!r}")
    if converter is not None:
        _compare(scaled, flat.model, side, backbone)
    features = flat.model.output
    with_token = type(model).__name__ in _WITH_CLASS_TOKEN and getattr(model, "use_class_token", True)
    if with_token and len(features.shape) == 3:
        features = keras.layers.Cropping1D((0, features.shape[1] - 1), name="class_token")(features)
    name = preset.rstrip("/").rpartition("/")[2]
    return keras.Model(flat.model.inputs[0], features), name, side, weights != "none", flat.notes


def _read(keras_hub: Any, preset: str, size: int | None, with_weights: bool) -> keras.Model:
    """The network of a preset; of one for images and text, that for images."""
    shape = {"image_shape": (size, size, 3)} if size else {}
    try:
        try:
            model = keras_hub.models.Backbone.from_preset(preset, load_weights=with_weights, **shape)
        except (TypeError, ValueError):
            # The class takes no size, or the weights are for one size.
            model = keras_hub.models.Backbone.from_preset(preset, load_weights=with_weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        known = {name for kind in _image_backbones(keras_hub) for name in kind.presets}
        if "Unknown preset identifier" in reason:
            reason = "it is no name of a preset, no address such as kaggle:// or hf://, and no folder"
        rule = f"KerasHub cannot load this preset{did_you_mean(preset, known)}: {reason}"
        raise UserError(f"--backbone: {rule}. Received: 'hub:{preset}'") from error
    return getattr(model, "vision_encoder", model)


def _number(model: keras.Model) -> None:
    """Numbers the operations that nobody named from the input on. Keras's numbers depend on what the process built before."""
    counts: dict[str, int] = {}
    for operation in model.operations:
        stem = re.sub(r"_\d+$", "", operation.name)
        if stem.replace("_", "") == type(operation).__name__.lower():
            counts[stem] = counts.get(stem, -1) + 1
            operation.name = f"{stem}_{counts[stem]}" if counts[stem] else stem


def _image_backbones(keras_hub: Any) -> list[type]:
    """KerasHub's networks that images go into."""
    kinds = [kind for name, kind in vars(keras_hub.models).items() if name.endswith("Backbone") and name != "Backbone"]
    converters = vars(keras_hub.layers).values()
    of_images = {one.backbone_cls for one in converters if getattr(one, "backbone_cls", None) is not None}
    return [kind for kind in kinds if kind in of_images]


def _converter(keras_hub: Any, preset: str) -> Any | None:
    """The image converter of a preset; None where it has none."""
    try:
        return keras_hub.layers.ImageConverter.from_preset(preset)
    except (ValueError, FileNotFoundError):
        return None


def _with_scaling(model: keras.Model, converter: Any, size: int) -> keras.Model:
    """The network behind what its image converter does to the pixels, after it has made the image a square of its size."""
    scale = 1.0 if converter.scale is None else np.asarray(converter.scale, float).tolist()
    offset = 0.0 if converter.offset is None else np.asarray(converter.offset, float).tolist()
    inputs = keras.Input((size, size, 3), name="images")
    scaled = keras.layers.Rescaling(scale, offset, name="rescaling")(inputs)
    # Some take a dictionary.
    return keras.Model(inputs, model(keras.tree.pack_sequence_as(model._inputs_struct, [scaled])))


def _compare(theirs: keras.Model, ours: keras.Model, size: int, backbone: str) -> None:
    """Raises UserError where the opened network computes something else than KerasHub's: another version may."""
    images = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    expected, found = np.asarray(theirs(images, training=False)), np.asarray(ours(images, training=False))
    if expected.shape == found.shape and np.abs(expected - found).max() > MAX_DIFFERENCE * np.abs(expected).max():
        rule = f"opened, this network computes something else than in KerasHub ({theirs.name}); this is a bug"
        raise UserError(f"--backbone: {rule}. Received: {backbone!r}")
