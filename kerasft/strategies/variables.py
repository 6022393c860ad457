"""Which variables of an unfrozen layer train: all, its offsets, or a normalisation's scales and offsets."""

from collections.abc import Callable

import keras

# The layers that `norm` means. All of them have trained scales, offsets or both.
NORMALISATION = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)

# What Keras's layers call the variables that are added to what they compute.
_OFFSETS = ("bias", "beta")


def every(layer: keras.Layer) -> list[keras.Variable]:
    """All variables of a layer that gradients reach, without those of layers inside."""
    return list(layer._trainable_variables)


def offsets(layer: keras.Layer) -> list[keras.Variable]:
    """The variables that are added: `bias` of convolutions and dense layers, `beta` of normalisation."""
    return [variable for variable in every(layer) if variable.name in _OFFSETS]


def normalisation(layer: keras.Layer) -> list[keras.Variable]:
    """The scales and offsets of a normalisation layer; of other layers none."""
    return every(layer) if isinstance(layer, NORMALISATION) else []


# What `Phase.variables` may be. Each function gives the variables that train of a layer, without those of layers inside.
VARIABLES: dict[str, Callable[[keras.Layer], list[keras.Variable]]] = {
    "all": every,
    "bias": offsets,
    "norm": normalisation,
}

# What each of them is, in words.
PURPOSES = {
    "all": "all variables",
    "bias": "biases and offsets of normalisation",
    "norm": "scales and offsets of normalisation layers",
}
