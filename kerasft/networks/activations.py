"""Activations by name: functions of keras.activations, and activation layers, which may have arguments."""

import keras

from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

FUNCTIONS = {
    name: value
    for name, value in vars(keras.activations).items()
    if not name.startswith("_") and name not in ("get", "serialize", "deserialize")
}
LAYERS = {name: getattr(keras.layers, name) for name in ("ELU", "LeakyReLU", "PReLU", "ReLU")}


def layer(activation: str | Spec, flag: str, name: str, dtype: str | keras.DTypePolicy) -> keras.Layer:
    """The layer of an activation.

    Args:
        activation: a name, or a Spec such as `LeakyReLU(negative_slope=0.1)`.
        flag: for messages.
        name: of the layer.
        dtype: of the layer.

    Raises:
        UserError: an unknown name or argument.
        ValueError: a dotted name.
    """
    spec = activation if isinstance(activation, Spec) else Spec(str(activation))
    if isinstance(activation, Spec) and (spec.args or spec.kwargs):
        return specs.build(spec, flag, LAYERS, dtype=dtype, name=name)
    if "." in spec.name:
        raise ValueError("activation must be a name of keras.activations or an activation layer")
    # One namespace: `LeakyReLU` is the layer, `leaky_relu` the function, and their slopes differ.
    found = specs.resolve(spec, flag, FUNCTIONS | LAYERS)
    if found in LAYERS.values():
        return found(dtype=dtype, name=name)
    return keras.layers.Activation(found, dtype=dtype, name=name)
