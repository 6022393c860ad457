"""Copies of a network's model: layers of the same names and settings, with weights of their own."""

from collections.abc import Callable
from typing import Any

import keras

from kerasft.networks import backbones
from kerasft.networks.network import Network


def copied(network: Network, called: Callable[..., Any] | None = None) -> keras.Model:
    """A copy of the network's model, with the same weights.

    Args:
        called: calls an operation on its arguments; it may put further layers behind.
    """

    def copy_of(operation: keras.Operation) -> keras.Operation:
        return type(operation).from_config(operation.get_config())

    inputs = keras.Input(network.model.inputs[0].shape[1:], name=network.model.inputs[0].name)
    # Without optimizer and loss.
    plain = keras.Model(network.model.inputs[0], network.model.output)
    model = keras.models.clone_model(plain, inputs, clone_function=copy_of, call_function=called)
    model = keras.Model(inputs, model.output, name=network.model.name)
    for layer in network.model.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    backbones.refresh_normalization(model)
    return model
