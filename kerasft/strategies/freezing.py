"""Freezing: which layers of a network a phase trains. The only file that sets `.trainable`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras

from kerasft.networks import fused_batch_norm
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.strategies.phase import Phase

# Blocks between cut points: with fewer, fractions of them mean little.
MIN_BLOCKS = 6

# Keras's 0.99 and MobileNetV2's 0.999 need thousands of steps to follow; fine-tuning has hundreds.
BATCH_NORM_MOMENTUM = 0.9


def blocks(network: Network) -> list[str]:
    """The first layer of each of the backbone's blocks, input to output.

    A block is a stretch between two cut points that holds weights to train (other than normalisation), with the
    stretches behind it that hold none. In a network that has hardly any cut points (NASNet's cells look back over
    two others) every layer with such weights is one.
    """
    starts, opening, weighted = [], None, False
    operations = {operation.name: operation for operation in network.model.operations}
    for name in network.backbone:
        layer = operations[name]
        opening = opening or name
        weighted = weighted or _learns(layer)
        if name in network.cuts:
            if weighted:
                starts.append(opening)
            opening, weighted = None, False
    return starts if len(starts) >= MIN_BLOCKS else [name for name in network.backbone if _learns(operations[name])]


def first_layer(network: Network, phase: Phase) -> str | None:
    """The name of the first backbone layer that a phase trains; None for the head alone.

    Raises:
        UserError: an `unfreeze` that is neither a fraction in (0, 1] nor a layer of the backbone.
    """
    if not phase.trains_backbone:
        return None
    value = phase.unfreeze
    if isinstance(value, str) and value in network.backbone:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        starts = blocks(network)
        return network.backbone[0] if value == 1 else starts[-math.ceil(value * len(starts))]
    near = did_you_mean(value, network.backbone) if isinstance(value, str) else ""
    rule = f"top(unfreeze=) must be a fraction in (0, 1] or a layer of {network.name}{near}"
    raise UserError(f"--phases: {rule}. Received: {value!r}")


def apply(network: Network, phase: Phase) -> tuple[int, int]:
    """Freezes and unfreezes the layers as a phase says; returns the numbers of trainable and frozen parameters.

    Keras's `fit` runs every layer in training mode, whatever `training=` the graph was built with. So each frozen layer,
    and each one inside of it, is called in inference mode: dropout, noise and stochastic depth draw nothing, and
    statistics stay. BatchNormalization that is held has `trainable = False`, which does the same in an unfrozen layer.
    One that trains gets `BATCH_NORM_MOMENTUM` and a fused kernel.
    """
    first = first_layer(network, phase)
    backbone = network.backbone
    start = len(backbone) if first is None else backbone.index(first)
    unfrozen = set(backbone[start:])
    release(network)
    for layer in network.model.layers:
        inside = layer.name in backbone
        frozen = inside and layer.name not in unfrozen
        layer.trainable = not frozen
        for inner in layer._flatten_layers():
            norm = isinstance(inner, keras.layers.BatchNormalization)
            if frozen:
                if inner._call_has_training_arg:
                    _override(inner, "call", _inferring(inner.call))
            elif norm and inside and phase.batch_norm == "hold":
                inner.trainable = False
            elif norm:
                _override(inner, "momentum", BATCH_NORM_MOMENTUM)
                _override(inner, "call", fused_batch_norm.make_fused_call(inner))
    trainable = sum(math.prod(weight.shape) for weight in network.model.trainable_weights)
    return trainable, network.model.count_params() - trainable


def release(network: Network) -> None:
    """Undoes what `apply` holds, before the model is saved."""
    network.model.trainable = True
    for layer in network.model.layers:
        # Keras leaves the layers of a model alone that is trainable itself.
        layer.trainable = True
        for inner in layer._flatten_layers():
            _restore(inner)


def trained_batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The layers whose statistics move in training, after `apply`."""
    layers = [inner for layer in model.layers for inner in layer._flatten_layers()]
    return [layer for layer in layers if "momentum" in vars(layer).get("kerasft_held", {})]


def _inferring(call: Callable) -> Callable:
    """A layer's `call` in inference mode, whatever it is asked for."""

    @functools.wraps(call)
    def inferred(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs | {"training": False})

    return inferred


def _override(layer: keras.Layer, name: str, value: float | Callable) -> None:
    """Sets an attribute until `_restore`; what stood in the layer itself comes back, what its class gave is bared."""
    held = vars(layer).setdefault("kerasft_held", {})
    held[name] = vars(layer).get(name)
    vars(layer)[name] = value


def _restore(layer: keras.Layer) -> None:
    for name, value in vars(layer).pop("kerasft_held", {}).items():
        if value is None:
            del vars(layer)[name]
        else:
            vars(layer)[name] = value


def _learns(operation: keras.Operation) -> bool:
    """Whether an operation holds weights other than a normalisation's."""
    layers = keras.layers
    norms = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.Normalization)
    return isinstance(operation, keras.Layer) and not isinstance(operation, norms) and bool(operation.weights)
