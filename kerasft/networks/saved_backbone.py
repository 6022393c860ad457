"""Somebody's saved model as a backbone: opened, without its head and its augmentation, on RGB in 0..255."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from kerasft.networks import flattening, flip_averaging, hub_layers, image_rows, layer_names, pixel_scaling, saved_files
from kerasft.settings.errors import UserError, counted, one_of

# What may follow the last Dense layer of a classifier, and the convolution that takes its place in MobileNets: what gives other
# values or another shape to the same outputs.
_AFTER_LOGITS = (
    keras.layers.Activation,
    keras.layers.Softmax,
    keras.layers.Dropout,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Rescaling,
    keras.layers.Normalization,
)
_AFTER_LOGITS_OPERATIONS = (
    *("Softmax", "Sigmoid", "LogSoftmax", "Reshape", "Squeeze"),
    *("TrueDivide", "Divide", "Multiply", "Add", "Subtract"),
)

# What ends a classifier.
_PROBABILITIES = ("softmax", "sigmoid", "log_softmax", "Softmax", "Sigmoid", "LogSoftmax")

# What may stand between the features and the classifier. The head of kerasft pools the features itself.
_BEFORE_LOGITS = (
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
)

# What the layers of a model have after `quantize()`.
_QUANTISED = keras.dtype_policies.QuantizedDTypePolicy


class SavedBackbone(NamedTuple):
    """A flat model.

    Attributes:
        model: float32 [N, S, S, 3], RGB in 0..255, to features [N, H, W, C], [N, T, C] or [N, C].
        notes: what the user should know of how it was opened, a sentence each.
    """

    model: keras.Model
    notes: tuple[str, ...]


def load(path: str, size: int | None, scaling: str) -> SavedBackbone:
    """Loads a `.keras` or `.h5` model without its head: that of kerasft, or the last Dense layer and what follows it.

    On images of another size than the model's own, its layers are built anew for that size and keep their weights.

    Args:
        path: of the file.
        size: side of the images; None for the model's own.
        scaling: `--preprocessing`. `auto` for a model that prepares the pixels itself.

    Raises:
        UserError: the model is no network from images to features, its pixels are not prepared, or its layers do not fit
            images of this size.
    """
    model = flip_averaging.without_mirroring(saved_files.load_model(path))
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        rule = "must be functional or Sequential; put a model of another class into one: keras.Model(inputs, model(inputs))"
        raise UserError(f"--backbone: {rule}. Received: {path!r}")
    if not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(f"--backbone: must be a functional model of one input and one output. Received: {path!r}")
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[-1] != 3:
        raise UserError(f"--backbone: must take images [N, S, S, 3]; this one takes {shape}. Received: {path!r}")
    if rounded := [one for one in model._flatten_layers() if isinstance(one.dtype_policy, _QUANTISED)]:
        rule = "must compute in floating point; save the model before its quantize()"
        given = f"{rounded[0].name} ({rounded[0].dtype_policy.name}) in {path!r}"
        raise UserError(f"--backbone: {rule}. Received: {given}")
    own = {side for side in shape[1:3] if side is not None}
    rule = f"this model takes images of {shape[1]}x{shape[2]} pixels"
    if not own:
        rule = (
            "layers of this model do not fit this size"
            if size
            else "is needed, for this model takes images of any size"
        )
    refusal = UserError(f"--image_size: {rule}. Received: {size}")
    if len(own) > 1 or not (size or own):
        raise refusal
    side = size or min(own)
    if own - {side} and hub_layers.holds_any(model):
        raise refusal
    try:
        found = flatten(model, side, scaling, f"Received: {path!r}")
    except ValueError as error:
        if side not in own:
            raise refusal from error
        raise
    if side not in own and not image_rows.one_an_image(found.model):
        raise refusal
    return found


def flatten(model: keras.Model, size: int, scaling: str, received: str) -> SavedBackbone:
    """Opens a model and leaves out its head.

    Args:
        model: of one input [N, S, S, 3] and one output.
        size: S.
        scaling: as in `load`.
        received: the end of an error.

    Raises:
        UserError: as `load`.
    """
    inputs = keras.Input((size, size, 3), name="images")
    opened = flattening.open_model(model, inputs)
    flat = keras.Model(inputs, opened.output)
    own = pixel_scaling.has_own(flat)
    if own and scaling != "auto":
        rule = "must be auto for a saved model that has its own preprocessing"
        raise UserError(f"--preprocessing: {rule}. Received: {scaling!r}")
    if not own and scaling == "auto":
        rule = "must begin with a Rescaling or Normalization layer, or with operations that scale pixels, to take RGB in 0..255"
        way = f"if pixels were prepared outside of it, say how: --preprocessing={one_of(pixel_scaling.MODES)}"
        raise UserError(f"--backbone: {rule}; {way}. {received}")
    if not own:
        inputs = keras.Input((size, size, 3), name="images")
        opened = flattening.open_model(model, pixel_scaling.add(inputs, scaling))
        flat = keras.Model(inputs, opened.output)
    features, doubtful = _without_classifier(flat)
    if len(features.shape) not in (2, 3, 4):
        rule = f"features must be [N, H, W, C], [N, T, C] or [N, C]; these are {features.shape}"
        raise UserError(f"--backbone: {rule}. {received}")
    backbone = keras.Model(inputs, features)
    _rename(backbone)
    return SavedBackbone(keras.Model(inputs, features), _notes(opened, backbone, doubtful))


def _notes(opened: flattening.Opened, backbone: keras.Model, doubtful: keras.layers.Layer | None) -> tuple[str, ...]:
    names = {operation.name for operation in backbone.operations}
    notes = []
    if opened.augmentations:
        notes.append(f"without its augmentation layers ({', '.join(opened.augmentations)}); --augment augments")
    if closed := [name for name in opened.closed if name.partition(" ")[0] in names]:
        notes.append(f"{', '.join(closed)}: cannot be opened, so all of it is frozen or trained together")
    if untied := [name for name in opened.untied if name in names]:
        notes.append(f"{', '.join(untied)}: called more than once, so each call now has weights of its own")
    if doubtful:
        what = f"without its last layer {doubtful.name} ({counted(doubtful.output.shape[-1], 'output')}), taken for its head"
        notes.append(f"{what}; if it belongs to the features, save the model with an Identity layer behind it")
    if _gives_probabilities(last := backbone.output._keras_history.operation):
        rule = "gives probabilities, which become the features; if that is the old head, save the model without it"
        notes.append(f"{last.name}: {rule}")
    return tuple(notes)


def _without_classifier(model: keras.Model) -> tuple[keras.KerasTensor, keras.layers.Layer | None]:
    """The input of the head of kerasft, or of a last Dense that only `_AFTER_LOGITS` follow; else the output.

    Also gives that Dense where no probabilities follow it. Then it may have been a layer of the features.

    A 1x1 convolution on a map of one place is a Dense. A Dense over tokens is a classifier only if it ends in a softmax.
    Dropout and average pooling before it are left out too, for the head of kerasft has its own.
    """
    names = [operation.name for operation in model.operations]
    if layer_names.FEATURES in names and layer_names.STANDARDISE in names:
        pooled = model.get_layer(layer_names.FEATURES).input
        if not isinstance(pooled, list):
            return pooled, None
        return pooled[-1]._keras_history.operation.input, None  # of several depths, the last is the backbone's output
    output, doubtful = model.output, None
    dense = _before(output, _is_after_logits)._keras_history.operation
    # Another operation may have several outputs.
    if _is_dense(dense):
        vector = len(output.shape) == 2 and _has_one_place(dense.output)
        if vector or _ends_in_softmax(model, dense):
            end = _before(output, lambda one: _is_after_logits(one) and not _gives_probabilities(one))
            doubtful = None if _gives_probabilities(end._keras_history.operation) else dense
            output = dense.input
    return _before(output, lambda one: isinstance(one, _BEFORE_LOGITS)), doubtful


def _is_dense(operation: keras.Operation) -> bool:
    if isinstance(operation, keras.layers.Conv2D):
        return tuple(operation.kernel_size) == (1, 1) and _has_one_place(operation.output)
    return isinstance(operation, keras.layers.Dense)


def _has_one_place(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor is one vector an image: [N, C], or a map or tokens of one place."""
    return all(side == 1 for side in tensor.shape[1:-1])


def _before(tensor: keras.KerasTensor, passed: Callable[[keras.Operation], bool]) -> keras.KerasTensor:
    """The tensor before the last operations that `passed` holds for."""
    while passed(operation := tensor._keras_history.operation) and isinstance(operation.input, keras.KerasTensor):
        tensor = operation.input
    return tensor


def _ends_in_softmax(model: keras.Model, dense: keras.layers.Layer) -> bool:
    """Whether a last Dense classifies each token, as in a network that reads text."""
    last = model.output._keras_history.operation
    activation = getattr(dense if last is dense else last, "activation", None)
    return activation is keras.activations.softmax or type(last).__name__ == "Softmax"


def _gives_probabilities(operation: keras.Operation) -> bool:
    activation = getattr(operation, "activation", None)
    return type(operation).__name__ in _PROBABILITIES or getattr(activation, "__name__", None) in _PROBABILITIES


def _is_after_logits(operation: keras.Operation) -> bool:
    """Whether an operation changes nothing but values and shape of one tensor."""
    return isinstance(operation, _AFTER_LOGITS) or type(operation).__name__ in _AFTER_LOGITS_OPERATIONS


def _rename(model: keras.Model) -> None:
    """Gives other names to operations that are called like layers of kerasft's head, or like its adapters."""
    names = {operation.name for operation in model.operations}
    reserved = (layer_names.FEATURES, layer_names.STANDARDISE, layer_names.LOGITS, layer_names.VALUES)
    for operation in model.operations:
        name = operation.name
        if name in reserved or name.startswith((layer_names.POOLED, layer_names.ADAPTER_PREFIX, "head_")):
            while name in names:
                name = f"backbone_{name}"
            operation.name = name
            names.add(name)
