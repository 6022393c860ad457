"""Low-rank updates (LoRA): kernels get one for the time of a phase, and it is folded into them in the end."""

import keras
import numpy as np

from kerasft.networks.network import Network


def with_updates(network: Network, rank: int, alpha: float) -> Network:
    """The network with a low-rank update of its backbone's kernels: W + (alpha / rank) A B (LoRA, Hu et al. 2022).

    B is zero, so the outputs are the same. Layers that bear an update are copies, with Keras's own `enable_lora`, of the
    same names. All other layers are the network's own. Keras knows LoRA for dense layers and convolutions, not for depthwise
    and separable ones. A kernel that has no more values than its update would have gets none.

    Args:
        network: built; its weights are copied where a layer is.
        rank: columns of A and rows of B.
        alpha: the update is multiplied by alpha / rank.
    """

    def adapted(operation: keras.Operation) -> keras.Operation:
        if operation.name in network.backbone and any(_bears(layer, rank) for layer in _layers(operation)):
            return type(operation).from_config(operation.get_config())
        return operation

    inputs = keras.Input(network.model.inputs[0].shape[1:], name=network.model.inputs[0].name)
    # Without optimizer and loss.
    plain = keras.Model(network.model.inputs[0], network.model.output)
    model = keras.models.clone_model(plain, inputs, clone_function=adapted)
    for place, (ours, theirs) in enumerate(_copies(network.model, model)):
        ours.set_weights(theirs.get_weights())
        for inner in ours._flatten_layers():
            if _bears(inner, rank):
                # A stopped run begins with the same A again.
                inner.enable_lora(rank, a_initializer=keras.initializers.HeUniform(seed=place), lora_alpha=alpha)
    return network._replace(model=keras.Model(inputs, model.output, name=network.model.name))


def fold(model: keras.Model, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Weights that give the same outputs, with each update added to its kernel, and B zero.

    Args:
        model: whose weights they are, in the order of `get_weights`. Without low-rank updates nothing changes.
    """
    places = {id(variable): place for place, variable in enumerate(model.weights)}
    folded = list(weights)
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            kernel, a, b = (places[id(one)] for one in (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b))
            folded[kernel] = weights[kernel] + layer.lora_alpha / layer.lora_rank * (weights[a] @ weights[b])
            folded[kernel] = folded[kernel].astype(weights[kernel].dtype)
            folded[b] = np.zeros_like(weights[b])
    return folded


def copy_back(adapted: Network, network: Network) -> None:
    """Gives a network the weights of what `with_updates` made of it, whose updates are folded."""
    for ours, theirs in _copies(network.model, adapted.model):
        for source, target in zip(ours._flatten_layers(), theirs._flatten_layers(), strict=True):
            # The factors stand behind the variables that both have.
            pairs = list(zip(source._trainable_variables, target._trainable_variables))
            pairs += zip(source._non_trainable_variables, target._non_trainable_variables)
            pairs += [(a.state, b.state) for a, b in zip(source._seed_generators, target._seed_generators)]
            for value, variable in pairs:
                variable.assign(value)


def _layers(operation: keras.Operation) -> list[keras.Layer]:
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else []


def _bears(layer: keras.Layer, rank: int) -> bool:
    """Whether a layer's kernel gets an update."""
    if not hasattr(layer, "enable_lora") or isinstance(layer, keras.layers.Embedding) or layer.kernel_constraint:
        return False
    shape = layer._kernel.shape
    return int(np.prod(shape)) > rank * (int(np.prod(shape[:-1])) + shape[-1])


def _copies(plain: keras.Model, adapted: keras.Model) -> list[tuple[keras.Layer, keras.Layer]]:
    """The layers of the adapted model that are copies, each with the one that it is a copy of."""
    originals = {layer.name: layer for layer in plain.layers}
    return [
        (layer, originals[layer.name])
        for layer in adapted.layers
        if layer is not originals.get(layer.name, layer) and not isinstance(layer, keras.layers.InputLayer)
    ]
