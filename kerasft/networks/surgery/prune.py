"""`prune`: whole channels are removed, with all that depends on them."""

import math
from collections import defaultdict

import keras
import numpy as np

from kerasft.networks import copies
from kerasft.networks.network import Network
from kerasft.networks.surgery import channels, moments, parts
from kerasft.networks.surgery.channels import Channels
from kerasft.networks.surgery.moments import Moments
from kerasft.settings.errors import one_of

# At most so much of the channels of a group is removed.
MAX_FRACTION = 0.8

# The variance that is left of an input counts as at least this share of the whole.
MIN_VARIANCE = 0.05


# What a channel's strength is measured against.
COSTS = ("channels", "flops")


def prune(network: Network, fraction: float = 0.3, per: str = "channels") -> Network:
    """The network without its weakest channels, with a new head.

    Channels that a residual sum or a gate joins go together. Those of depthwise convolutions and BatchNormalization go with
    the convolution before. What is not known to treat each channel for itself keeps all of them.

    The strength of a channel is its share of the variance that the next convolution or dense layer sees, by the norm of
    that layer's kernel, averaged over the layers that read it. The variance is what BatchNormalization says of it (see
    `moments`), so no image is needed. Where nothing is known of it, the squared norm of the channel's own kernel
    counts (Li et al. 2017). The weakest channels of the whole network go, at most `MAX_FRACTION` of those that are joined.

    With `per="flops"` a strength is divided by the multiplications that the channel costs in all layers that make or
    read it (after Molchanov et al. 2017, section 2.2). Then as little strength as possible goes for what is saved. Wide
    layers keep more of their channels, and narrow ones, on many pixels, fewer.

    What the removed channels gave on average goes into the statistics of the next BatchNormalization, or into the bias.
    Outputs change, so the network has to be fine-tuned.

    Args:
        fraction: of the channels that are removed, in (0, 1).
        per: `channels` or `flops`.

    Raises:
        ValueError: no fraction in (0, 1), another `per`, or nothing that can be removed.
    """
    parts.check_fraction(fraction, "fraction")
    if per not in COSTS:
        raise ValueError(f"per must be one of {one_of(COSTS)}")
    model = parts.backbone_model(network)
    traced, known = channels.trace(model), moments.trace(model)
    strengths = _strengths(model, traced, known)
    if per == "flops":
        costs = channels.multiplications(model, traced)
        strengths = {group: values / costs[group] for group, values in strengths.items() if costs[group]}
    kept = _kept(traced, strengths, fraction)
    if not kept:
        raise ValueError(f"fraction={fraction} finds no channels in {network.name} that may be removed")
    places = {}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.output):
            places[id(tensor)] = _places(traced, kept, tensor)

    def made(operation: keras.Operation) -> keras.Operation | None:
        output = keras.tree.flatten(operation.output)[0]
        size = len(places[id(output)])
        if size == output.shape[-1]:
            return None
        return type(operation).from_config(operation.get_config() | _config(operation, size))

    weights = _compensated(model, known, places)
    for layer in model.layers:
        if layer.weights and isinstance(layer.input, keras.KerasTensor) and isinstance(layer.output, keras.KerasTensor):
            values = weights.get(layer.name) or layer.get_weights()
            weights[layer.name] = _sliced(layer, values, places[id(layer.input)], places[id(layer.output)])
    pruned = copies.copied_model(model, made=made, weights=weights)
    return parts.with_new_head(network, pruned.inputs[0], pruned.output)


def _strengths(model: keras.Model, traced: Channels, known: dict[int, Moments]) -> dict[int, np.ndarray]:
    """The strength of the channels of each group, float64 [C]; of one layer they sum to 1."""
    by_variance, by_norm = defaultdict(list), defaultdict(list)
    read = set()
    for layer in filter(channels.takes_kernel, model.layers):
        kernel = _squared(layer)
        _share(traced, layer.output, kernel.sum((0, 1)), by_norm)
        read |= {traced.root(group) for group in traced.of[id(layer.input)]}
        if id(layer.input) in known:
            _share(traced, layer.input, known[id(layer.input)].variance * kernel.sum((0, 2)), by_variance)
    if id(model.output) in known and not read.intersection(traced.roots(model.output)):
        _share(traced, model.output, known[id(model.output)].variance, by_variance)
    return {group: np.mean(shares, 0) for group, shares in (by_norm | by_variance).items()}


def _share(traced: Channels, tensor: keras.KerasTensor, values: np.ndarray, found: dict[int, list[np.ndarray]]) -> None:
    """Adds the shares of a tensor's channels to their groups."""
    shares, start = values / max(values.sum(), 1e-30), 0
    for group in traced.of[id(tensor)]:
        found[traced.root(group)].append(shares[start : start + traced.sizes[group]])
        start += traced.sizes[group]


def _kept(traced: Channels, strengths: dict[int, np.ndarray], fraction: float) -> dict[int, np.ndarray]:
    """The channels that stay, int [C], of each group that loses some."""
    sizes = {group: size for group, size in traced.removable().items() if group in strengths}
    ranked = sorted((strengths[group][place], group, place) for group, size in sizes.items() for place in range(size))
    left, gone = math.floor(fraction * len(ranked)), defaultdict(list)
    for _, group, place in ranked:
        if left and len(gone[group]) < math.floor(MAX_FRACTION * sizes[group]):
            gone[group].append(place)
            left -= 1
    return {group: np.setdiff1d(np.arange(sizes[group]), removed) for group, removed in gone.items() if removed}


def _compensated(
    model: keras.Model, known: dict[int, Moments], places: dict[int, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Weights, by the names of layers, that make up for what the removed channels gave on average."""
    found = {}
    for layer in filter(channels.takes_kernel, model.layers):
        moments_before, staying = known.get(id(layer.input)), places[id(layer.input)]
        if moments_before is None or len(staying) == layer.input.shape[-1]:
            continue
        gone = np.setdiff1d(np.arange(layer.input.shape[-1]), staying)
        shift = moments_before.mean[gone] @ _flat(layer).sum(0)[gone]
        norm = next((one for one in model.layers if _normalises(one, layer)), None)
        if norm is not None:
            variances = moments_before.variance[:, None] * _squared(layer).sum(0)
            ratio = variances[staying].sum(0) / np.maximum(variances.sum(0), 1e-30)
            *others, mean, variance = norm.get_weights()
            shifted, scaled = mean - shift, variance * np.maximum(ratio, MIN_VARIANCE)
            found[norm.name] = [*others, shifted.astype(np.float32), scaled.astype(np.float32)]
        elif layer.use_bias:
            *others, bias = layer.get_weights()
            found[layer.name] = [*others, (bias + shift).astype(np.float32)]
    return found


def _normalises(norm: keras.Layer, layer: keras.Layer) -> bool:
    """Whether a layer is a BatchNormalization of what another computes, with no activation in between."""
    linear = keras.activations.serialize(layer.activation) == "linear"
    return linear and isinstance(norm, keras.layers.BatchNormalization) and norm.input is layer.output


def _flat(layer: keras.Layer) -> np.ndarray:
    """The kernel of a layer as float64 [taps, channels before, channels after]."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        taps = np.asarray(layer.depthwise_kernel, np.float64).reshape(-1, layer.input.shape[-1], 1)
        return taps * np.asarray(layer.pointwise_kernel, np.float64)[0]
    kernel = np.asarray(layer.kernel, np.float64)
    return kernel.reshape(-1, *kernel.shape[-2:])


def _squared(layer: keras.Layer) -> np.ndarray:
    return _flat(layer) ** 2


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


def _sliced(layer: keras.Layer, values: list[np.ndarray], before: np.ndarray, after: np.ndarray) -> list[np.ndarray]:
    """The weights of a layer for the channels before and after it that stay."""
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
