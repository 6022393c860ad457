"""Adaptive gradient clipping (AGC): a unit's gradient is at most so large relative to its weights (Brock et al. 2021)."""

from collections.abc import Iterable

import keras

# Units whose weights are smaller count as if they had this norm. Else weights that begin at 0 would stay there.
MIN_NORM = 1e-3


def clip_adaptively(
    optimizer: keras.optimizers.Optimizer,
    ratio: float,
    layers: Iterable[keras.Layer],
    excluded: Iterable[keras.Variable],
) -> None:
    """Clips the gradient of each unit at `ratio` times the norm of its weights, but at least `MIN_NORM`.

    A unit is one output of a layer. A vector, such as a bias, is one unit. This happens after the clipping of the
    optimizer itself, so the bound holds whatever `clipnorm` is.

    Args:
        optimizer: built, without a loss scale around it.
        ratio: 0 for no clipping.
        layers: all layers that hold its variables.
        excluded: variables that are not clipped. The paper leaves out the last layer.
    """
    if not ratio:
        return
    update, skipped = optimizer._backend_update_step, {optimizer._var_key(one) for one in excluded}
    per_channel = {optimizer._var_key(weight) for layer in layers for weight in _depthwise_weights(layer)}

    def clipped(gradients: list, variables: list, learning_rate: object) -> None:
        found = []
        for gradient, variable in zip(gradients, variables):
            key = optimizer._var_key(variable)
            if key not in skipped:
                gradient = clip(gradient, variable, ratio, depthwise=key in per_channel)
            found.append(gradient)
        update(found, variables, learning_rate)

    vars(optimizer)["_backend_update_step"] = clipped


def _depthwise_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of a depthwise convolution, or those of a separable one that are."""
    if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        return [layer.depthwise_kernel]
    depthwise = isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D))
    return layer.weights if depthwise else []


def clip(gradient: object, weights: object, ratio: float, *, depthwise: bool = False) -> object:
    """The gradient of one variable, clipped by units.

    Args:
        gradient, weights: of one shape.
        depthwise: whether it is the kernel of a depthwise convolution. Each of its channels is a unit.
    """
    ops = keras.ops
    gradient, weights = ops.convert_to_tensor(gradient), ops.cast(ops.convert_to_tensor(weights), gradient.dtype)
    axes = _axes(len(weights.shape), depthwise)
    norm, size = (ops.sqrt(ops.sum(ops.square(one), axis=axes, keepdims=True)) for one in (gradient, weights))
    most = ratio * ops.maximum(size, MIN_NORM)
    return ops.where(norm > most, gradient * (most / ops.maximum(norm, 1e-12)), gradient)


def _axes(dimensions: int, depthwise: bool) -> tuple[int, ...]:
    """The axes that a unit extends over, as in the paper's code: of a vector all, of a dense kernel the inputs."""
    if depthwise and dimensions > 2:
        return tuple(range(dimensions - 2))
    return (0,) if dimensions in (1, 2, 3) else tuple(range(dimensions - 1))
