"""`prune`: whole channels are removed, with all that depends on them."""

import math

import keras
import numpy as np

from kerasft.networks import copies
from kerasft.networks.network import Network
from kerasft.networks.surgery import channels, parts
from kerasft.networks.surgery.channels import Channels


def prune(network: Network, fraction: float = 0.3) -> Network:
    """The network without the weakest channels of each layer, with a new head.

    Channels that a residual sum or a gate joins go together. Those of depthwise convolutions and BatchNormalization go with
    the convolution before. Each group of joined layers loses the same fraction of its channels. Their strength is |gamma| of
    BatchNormalization (Liu et al. 2017), or the L1 norm of the kernel where there is none (Li et al. 2017), each divided by
    its mean over the channels, and summed over the joined layers. What is not known to treat each channel for itself keeps
    all of them.

    The outputs change: the network has to be fine-tuned.

    Args:
        fraction: of the channels that are removed, rounded down, in (0, 1).

    Raises:
        ValueError: no fraction in (0, 1), or nothing that can be removed.
    """
    parts.check_fraction(fraction, "fraction")
    model = parts.backbone_model(network)
    traced = channels.trace(model)
    kept = _kept(model, traced, fraction)
    if not kept:
        raise ValueError(f"fraction={fraction} finds no channels in {network.name} that may be removed")
    places = {}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.output):
            places[id(tensor)] = _places(traced, kept, tensor)

    def made(operation: keras.Operation) -> keras.Operation | None:
        size = len(places[id(operation.output)])
        if size == operation.output.shape[-1]:
            return None
        return type(operation).from_config(operation.get_config() | _config(operation, size))

    weights = {
        layer.name: _sliced(layer, places[id(layer.input)], places[id(layer.output)])
        for layer in model.layers
        if layer.weights and not isinstance(layer.input, list)
    }
    pruned = copies.copied_model(model, made=made, weights=weights)
    return parts.with_new_head(network, pruned.inputs[0], pruned.output)


def _kept(model: keras.Model, traced: Channels, fraction: float) -> dict[int, np.ndarray]:
    """The channels that stay, int [C], of each group that loses some."""
    strengths = _strengths(model, traced)
    kept = {}
    for group, size in traced.removable().items():
        staying = size - math.floor(fraction * size)
        if group in strengths and 0 < staying < size:
            kept[group] = np.sort(np.argsort(-strengths[group], kind="stable")[:staying])
    return kept


def _strengths(model: keras.Model, traced: Channels) -> dict[int, np.ndarray]:
    """The strength of the channels of each group, float64 [C]."""
    scales, norms = {}, {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            found, values = scales, np.abs(np.asarray(layer.gamma, np.float64))
        elif channels.takes_kernel(layer):
            kernel = np.abs(np.asarray(_last_kernel(layer), np.float64))
            found, values = norms, kernel.reshape(-1, kernel.shape[-1]).sum(0)
        else:
            continue
        start = 0
        for group in traced.of[id(layer.output)]:
            part = values[start : start + traced.sizes[group]]
            root, start = traced.root(group), start + traced.sizes[group]
            found[root] = found.get(root, 0.0) + part / max(part.mean(), 1e-12)
    return norms | scales


def _places(traced: Channels, kept: dict[int, np.ndarray], tensor: keras.KerasTensor) -> np.ndarray:
    """The channels of a tensor that stay, int [C]."""
    found, start = [], 0
    for group in traced.of[id(tensor)]:
        size = traced.sizes[group]
        found.append(start + kept.get(traced.root(group), np.arange(size)))
        start += size
    return np.concatenate(found)


def _config(operation: keras.Operation, size: int) -> dict:
    """The arguments of an operation that say how many channels it gives."""
    if isinstance(operation, keras.layers.Dense):
        return {"units": size}
    if channels.takes_kernel(operation):
        return {"filters": size}
    if isinstance(operation, keras.layers.Reshape):
        return {"target_shape": (*operation.target_shape[:-1], size)}
    return {}


def _last_kernel(layer: keras.Layer) -> keras.Variable:
    return layer.pointwise_kernel if isinstance(layer, keras.layers.SeparableConv2D) else layer.kernel


def _sliced(layer: keras.Layer, before: np.ndarray, after: np.ndarray) -> list[np.ndarray]:
    """The weights of a layer for the channels before and after it that stay."""
    values = layer.get_weights()
    if channels.is_depthwise(layer):
        return [values[0][:, :, before], *(value[after] for value in values[1:])]
    if isinstance(layer, keras.layers.SeparableConv2D):
        first, second, *biases = values
        return [first[:, :, before], second[:, :, before][..., after], *(value[after] for value in biases)]
    if channels.takes_kernel(layer):
        kernel, *biases = values
        return [kernel[..., before, :][..., after], *(value[after] for value in biases)]
    if isinstance(layer, keras.layers.BatchNormalization):
        return [value[after] for value in values]
    return values
