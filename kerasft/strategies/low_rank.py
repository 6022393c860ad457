"""Low-rank updates (LoRA): kernels get one for the time of a phase, and it is folded into them in the end."""

import keras
import numpy as np

from kerasft.networks import copies
from kerasft.networks.network import Network


def with_updates(network: Network, rank: int, alpha: float) -> Network:
    """A copy of the network with a low-rank update of its kernels: W + (alpha / rank) A B (LoRA, Hu et al. 2022).

    B is zero, so the outputs are the same. The updates are those of Keras's own `enable_lora`, which knows dense layers and
    convolutions, but no depthwise and separable ones. A kernel that has no more values than its update would have gets
    none, and the head gets none.

    Args:
        network: it stays as it is.
        rank: columns of A and rows of B.
        alpha: the update is multiplied by alpha / rank.
    """
    model = copies.copied(network)
    for index, layer in enumerate(model.layers):
        if layer.name not in network.backbone:
            continue
        for inner in layer._flatten_layers():
            if bears(inner, rank):
                # A stopped run begins with the same A again.
                inner.enable_lora(rank, a_initializer=keras.initializers.HeUniform(seed=index), lora_alpha=alpha)
    return network._replace(model=model)


def fold(model: keras.Model, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Weights that give the same outputs, with each update added to its kernel, and B zero.

    Args:
        model: whose weights they are, in the order of `get_weights`. Without low-rank updates nothing changes.
    """
    updated = [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]
    if not updated:
        return weights
    places = {id(variable): index for index, variable in enumerate(model.weights)}
    folded = list(weights)
    for layer in updated:
        kernel, a, b = (places[id(one)] for one in (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b))
        update = np.float32(layer.lora_alpha / layer.lora_rank) * (weights[a] @ weights[b])
        folded[kernel] = weights[kernel] + update.astype(weights[kernel].dtype)
        folded[b] = np.zeros_like(weights[b])
    return folded


def bears(layer: keras.Layer, rank: int) -> bool:
    """Whether a layer's kernel gets an update, or has got it: it has more values than an update of this rank."""
    if not hasattr(layer, "enable_lora") or isinstance(layer, keras.layers.Embedding) or layer.kernel_constraint:
        return False
    shape = layer._kernel.shape
    return int(np.prod(shape)) > rank * (int(np.prod(shape[:-1])) + shape[-1])
