"""Which variables of an unfrozen layer train, and what network they train in: the run's own, or a changed copy of it."""

from collections.abc import Callable

import keras
import numpy as np

from kerasft.networks import fake_quantisation
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
    """The factors of a layer's low-rank update; of a layer without one none."""
    return [layer.lora_kernel_a, layer.lora_kernel_b] if getattr(layer, "lora_enabled", False) else []


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
    # More than under "all", scales and offsets of a BatchNormalization train whose statistics stay: int8 folds them into the kernel.
    "quantised": every,
}


def trains(layer: keras.Layer, phase: Phase) -> bool:
    """Whether a phase trains any variable of a layer, without those of layers inside. Its low-rank update may be to come."""
    if phase.variables == "lora":
        return low_rank.bears(layer, phase.arguments["rank"])
    return bool(VARIABLES[phase.variables](layer))


# What each of them is, in words.
PURPOSES = {
    "all": "all variables",
    "bias": "biases and offsets of normalisation",
    "norm": "scales and offsets of normalisation layers",
    "adapter": "bottlenecks that are put behind its blocks",
    "lora": "low-rank updates of the kernels of dense layers and convolutions",
    "quantised": "all variables",
}

# What changes the network for the time of a phase, with the strategy's arguments.
_ADAPT: dict[str, Callable[..., Network]] = {
    "lora": low_rank.with_updates,
    "quantised": fake_quantisation.with_fake_quantisation,
}

# What then measures something in it on training images, from the changed network and the run's own.
_MEASURE: dict[str, Callable[[Network, Network, np.ndarray], None]] = {"quantised": fake_quantisation.measure}

# Whose answers are judged, where these are not the run's own network's.
JUDGED_AS = {"quantised": "int8 computes it"}

# What is done with the run's own network when it has the variables of the changed one.
_SETTLE: dict[str, Callable[[Network], None]] = {"quantised": fake_quantisation.round_kernels}


def phase_network(network: Network, phase: Phase) -> Network:
    """The network that a phase trains: the run's own, or a changed copy of it."""
    adapt = _ADAPT.get(phase.variables)
    return adapt(network, **phase.arguments) if adapt else network


def measure(trained: Network, network: Network, phase: Phase, images: Callable[[], np.ndarray]) -> None:
    """Lets the network of a phase measure what it has to, before the first step.

    Args:
        trained: that `phase_network` gave.
        network: the run's own.
        images: gives training images, float32 [N, S, S, 3], RGB in 0..255.
    """
    if phase.variables in _MEASURE:
        _MEASURE[phase.variables](trained, network, images())


def copy_back(trained: Network, network: Network, phase: Phase) -> None:
    """Gives the run's own network what a phase leaves in the network that it trained.

    Args:
        trained: that `phase_network` gave; its low-rank updates are folded. It may be the network itself.
    """
    if trained is network:
        return
    layers = {layer.name: layer for layer in trained.model.layers}
    for layer in network.model.layers:
        for source, target in zip(layers[layer.name]._flatten_layers(), layer._flatten_layers(), strict=True):
            # The factors of an update stand behind the variables that both have.
            pairs = list(zip(source._trainable_variables, target._trainable_variables))
            pairs += zip(source._non_trainable_variables, target._non_trainable_variables)
            pairs += [(a.state, b.state) for a, b in zip(source._seed_generators, target._seed_generators)]
            for value, variable in pairs:
                variable.assign(value)
    if phase.variables in _SETTLE:
        _SETTLE[phase.variables](network)
