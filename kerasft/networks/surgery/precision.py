"""`precision`: the backbone computes in another dtype, with the same weights."""

import keras

from kerasft.networks import backbones
from kerasft.networks.network import Network


def precision(network: Network, policy: str) -> Network:
    """The same network, weights and all, with a backbone that computes in another precision.

    Weights stay float32 (Micikevicius et al. 2018), and so do the layers that prepare the pixels (8 bits do not
    bear to be divided in bfloat16), and the head with all outputs. The network itself where nothing is to change.

    Args:
        policy: `float32`, `mixed_bfloat16` or `mixed_float16` (keras.io/api/mixed_precision).
    """
    exact = (keras.layers.Rescaling, keras.layers.Normalization)
    # A saved model may prepare its pixels in another precision.
    inexact = any(isinstance(one, exact) and one.dtype_policy.name != "float32" for one in network.model.layers)
    if not inexact and {one.dtype_policy.name for one in network.model.layers} | {"float32"} == {policy, "float32"}:
        return network
    backbone = set(network.backbone)
    head = {layer.name for layer in network.model.layers} - backbone

    def copied(operation: keras.Operation) -> keras.Operation:
        config = operation.get_config()
        if isinstance(operation, keras.Layer) and not isinstance(operation, keras.layers.InputLayer):
            config["dtype"] = "float32" if operation.name in head or isinstance(operation, exact) else policy
        return type(operation).from_config(config)

    inputs = keras.Input(network.model.inputs[0].shape[1:], name=network.model.inputs[0].name)
    # Without optimizer and loss.
    plain = keras.Model(network.model.inputs[0], network.model.output)
    model = keras.models.clone_model(plain, inputs, clone_function=copied, recursive=True)
    model.set_weights(network.model.get_weights())
    backbones.refresh_normalization(model)
    return network._replace(model=keras.Model(inputs, model.output, name=network.model.name))
