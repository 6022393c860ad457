"""Copies of a network's model: layers of the same names and settings, with weights of their own."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kerasft.networks import backbones
from kerasft.networks.network import Network


def copied(network: Network, called: Callable[..., Any] | None = None) -> keras.Model:
    """A copy of the network's model, with the same weights. Arguments as in `copied_model`."""
    return copied_model(network.model, called)


def copied_model(
    model: keras.Model,
    called: Callable[..., Any] | None = None,
    made: Callable[[keras.Operation], keras.Operation | None] = lambda operation: None,
    weights: Mapping[str, list[np.ndarray]] | None = None,
) -> keras.Model:
    """A copy of a model with one input and one output.

    Args:
        model: it stays as it is.
        called: calls an operation of the copy on its arguments; it may put further layers before or behind, or leave it
            out.
        made: returns what takes the place of an operation, under its name; None for a copy of it.
        weights: by the names of layers, where they are not those of the model; an empty list for none.
    """

    def copy_of(operation: keras.Operation) -> keras.Operation:
        return made(operation) or type(operation).from_config(operation.get_config())

    inputs = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)
    # Without optimizer and loss.
    plain = keras.Model(model.inputs[0], model.output)
    copy = keras.models.clone_model(plain, inputs, clone_function=copy_of, call_function=called)
    copy = keras.Model(inputs, copy.output, name=model.name)
    targets, given = {layer.name: layer for layer in copy.layers}, weights or {}
    for layer in model.layers:
        values = given[layer.name] if layer.name in given else layer.get_weights()
        target = targets.get(layer.name)
        if values and target:
            target.set_weights(values)
        if type(target) is type(layer):
            _copy_seeds(layer, target)
    backbones.refresh_normalization(copy)
    return copy


def _copy_seeds(source: keras.Layer, target: keras.Layer) -> None:
    """Gives a layer the state of another's random generators."""
    for ours, theirs in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        for one, other in zip(ours._seed_generators, theirs._seed_generators, strict=True):
            other.state.assign(one.state)


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights of a model by the name of their layer and their place in it.

    Copies of a model have the same names. Their paths may differ, for Keras numbers the variables that have no name.
    """
    return {f"{layer.name}/{index}": weight for layer in model.layers for index, weight in enumerate(layer.weights)}
