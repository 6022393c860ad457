"""Which variables of an unfrozen layer train: all of them, its offsets, a normalisation's, an adapter, or a low-rank update."""

from collections.abc import Callable

import keras

from kerasft.networks.blocks import NORMALISATION
from kerasft.networks.layer_names import ADAPTER_PREFIX
from kerasft.networks.network import Network
from kerasft.strategies import low_rank
from kerasft.strategies.phase import Phase

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


def factors(layer: keras.Layer) -> list[keras.Variable]:
    """The factors of a layer's low-rank update; before it has one, the kernel that may get it."""
    if getattr(layer, "lora_enabled", False):
        return [layer.lora_kernel_a, layer.lora_kernel_b]
    return [layer._kernel] if hasattr(layer, "enable_lora") and not isinstance(layer, keras.layers.Embedding) else []


def adapters(layer: keras.Layer) -> list[keras.Variable]:
    """All variables of a layer that `bottlenecks.with_adapters` put into the network; of other layers none."""
    return every(layer) if layer.name.startswith(ADAPTER_PREFIX) else []


# What `Phase.variables` may be. Each function gives the variables that train of a layer, without those of layers inside.
VARIABLES: dict[str, Callable[[keras.Layer], list[keras.Variable]]] = {
    "all": every,
    "bias": offsets,
    "norm": normalisation,
    "lora": factors,
    "adapter": adapters,
}

# What each of them is, in words.
PURPOSES = {
    "all": "all variables",
    "bias": "biases and offsets of normalisation",
    "norm": "scales and offsets of normalisation layers",
    "adapter": "bottlenecks that are put behind its blocks",
    "lora": "low-rank updates of the kernels of dense layers and convolutions",
}

# What puts variables into the network for the time of a phase, with the strategy's arguments.
_ADAPT: dict[str, Callable[..., Network]] = {"lora": low_rank.with_updates}


def phase_network(network: Network, phase: Phase) -> Network:
    """The network that a phase trains: the run's own, or a copy of it with further variables."""
    adapt = _ADAPT.get(phase.variables)
    return adapt(network, **phase.arguments) if adapt else network
