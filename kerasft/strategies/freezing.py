"""Freezing: which variables of a network a phase trains. The only file that sets `.trainable`."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras

from kerasft.networks import blocks, fused_batch_norm
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.strategies.phase import Phase
from kerasft.strategies.variables import PURPOSES, VARIABLES, trains

# Keras's 0.99 and MobileNetV2's 0.999 need thousands of steps to follow; fine-tuning has hundreds.
BATCH_NORM_MOMENTUM = 0.9


def first_layer(network: Network, phase: Phase) -> str | None:
    """The name of the first backbone layer that a phase trains; None for the head alone.

    Raises:
        UserError: as `unfrozen`.
    """
    return (
        next((name for name in network.backbone if name in names), None)
        if (names := unfrozen(network, phase))
        else None
    )


def unfrozen(network: Network, phase: Phase) -> frozenset[str]:
    """The names of the backbone's operations that a phase does not freeze.

    Raises:
        UserError: an `unfreeze` that the backbone does not have, or no variable of the kind that is to train.
    """
    if not phase.trains_backbone:
        return frozenset()
    names = network.backbone[_start(network, phase) :]
    if isinstance(phase.unfreeze, tuple):
        starts = blocks.starts(network)
        _check_names(network, phase, starts)
        ends = dict(zip(starts, [*starts[1:], None]))
        spans = [network.backbone[_place(network, one) : _place(network, ends[one])] for one in phase.unfreeze]
        names = tuple(name for span in spans for name in span)
    if phase.variables == "all":
        return frozenset(names)
    operations = {operation.name: operation for operation in network.model.operations}
    holding = [index for index, name in enumerate(names) if _holds(operations[name], phase)]
    if not holding:
        rule = f"{phase.strategy}() finds nothing to train in {network.name}: it trains {PURPOSES[phase.variables]}"
        raise UserError(f"--phases: {rule}. Received: '{phase}'")
    return frozenset(names[holding[0] :])


def apply(network: Network, phase: Phase) -> tuple[int, int]:
    """Freezes and unfreezes variables as a phase says; returns the numbers of trainable and frozen parameters.

    Keras's `fit` runs every layer in training mode, whatever `training=` the graph was built with. So each frozen layer,
    and each one inside of it, is called in inference mode: dropout, noise and stochastic depth draw nothing, and
    statistics stay. So is a layer of which some variables train and others stay, for a layer in training mode may change
    its variables by itself. BatchNormalization is governed by `batch_norm=`: the statistics of one that is held stay. One
    that trains gets `BATCH_NORM_MOMENTUM` and a fused kernel.
    """
    names = unfrozen(network, phase)
    release(network)
    for layer in network.model.layers:
        inside = layer.name in network.backbone
        frozen = inside and layer.name not in names
        layer.trainable = not frozen
        for inner in layer._flatten_layers():
            norm = isinstance(inner, keras.layers.BatchNormalization)
            part = inside and not frozen and phase.variables != "all"
            stays = part and _select(inner, phase.variables)
            if norm and not frozen and not (inside and phase.batch_norm == "hold"):
                _override(inner, "momentum", BATCH_NORM_MOMENTUM)
                _override(inner, "call", fused_batch_norm.make_fused_call(inner))
            elif norm and not frozen and not part:
                inner.trainable = False
            elif (frozen or stays or (norm and part)) and inner._call_has_training_arg:
                _override(inner, "call", _inferring(inner.call))
    trainable = sum(math.prod(weight.shape) for weight in network.model.trainable_weights)
    return trainable, network.model.count_params() - trainable


def release(network: Network) -> None:
    """Undoes what `apply` holds, before the model is saved."""
    network.model.trainable = True
    for layer in network.model.layers:
        # Keras leaves the layers of a model alone that is trainable itself.
        layer.trainable = True
        for inner in layer._flatten_layers():
            # TensorFlow ignores an attribute that is set to what it is, so a layer does not tell its variables.
            for variable in inner._trainable_variables:
                variable.trainable = True
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


def _start(network: Network, phase: Phase) -> int:
    """The place in the backbone from which on a phase trains, where it does not name blocks."""
    value = phase.unfreeze
    if isinstance(value, str) and value in network.backbone:
        return _place(network, value)
    if value is None or isinstance(value, tuple):
        return 0
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        return 0 if value == 1 else _place(network, blocks.start_of_last(network, value))
    near = did_you_mean(value, network.backbone) if isinstance(value, str) else ""
    rule = f"{phase.strategy}(unfreeze=) must be a fraction in (0, 1] or a layer of {network.name}{near}"
    raise UserError(f"--phases: {rule}. Received: {value!r}")


def _place(network: Network, name: str | None) -> int | None:
    return None if name is None else network.backbone.index(name)


def _check_names(network: Network, phase: Phase, starts: list[str]) -> None:
    """Raises UserError where a name is not that of the first layer of a block."""
    for name in phase.unfreeze:
        if name not in starts:
            # A strategy of the user's own may give anything.
            near = did_you_mean(str(name), starts)
            rule = f"a block of {network.name} is named by its first layer (kerasft layers){near}"
            raise UserError(f"--phases: {rule}. Received: {name!r}")


def _holds(operation: keras.Operation, phase: Phase) -> bool:
    """Whether a phase trains anything in an operation, or in a layer inside."""
    return isinstance(operation, keras.Layer) and any(trains(inner, phase) for inner in operation._flatten_layers())


def _select(layer: keras.Layer, kind: str) -> bool:
    """Lets the variables of this kind train, of the layer's own; returns whether others of them stay."""
    chosen = {id(variable) for variable in VARIABLES[kind](layer)}
    for variable in layer._trainable_variables:
        variable.trainable = id(variable) in chosen
    return len(chosen) < len(layer._trainable_variables)
