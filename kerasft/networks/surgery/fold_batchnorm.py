"""`fold_batchnorm`: BatchNormalization becomes part of the convolution or dense layer before it."""

from collections.abc import Collection
from typing import NamedTuple

import keras
import numpy as np

from kerasft.networks import copies
from kerasft.networks.network import Network
from kerasft.networks.surgery import parts

_LINEAR = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


class _Fold(NamedTuple):
    """A BatchNormalization and the layer before it, with the weights of both as one."""

    norm: keras.layers.BatchNormalization
    linear: keras.Layer
    weights: list[np.ndarray]


def fold_batchnorm(network: Network) -> Network:
    """The network without the BatchNormalization that follows a convolution or dense layer directly.

    gamma (W x - mean) / sqrt(var + eps) + beta is one linear map: its scale goes into the kernel, the rest into a bias
    (Jacob et al. 2018, section 3.2). Inference computes the same function with fewer operations. What comes before a
    convolution, as in DenseNet and ResNetV2, stays.

    Raises:
        ValueError: there is none.
    """
    model = folded_model(network.model, network.backbone)
    if model is None:
        raise ValueError(f"finds no BatchNormalization behind a convolution or dense layer in {network.name}")
    return parts.with_model(network, model)


def folded_model(model: keras.Model, names: Collection[str]) -> keras.Model | None:
    """A copy of a flat model without the BatchNormalization layers of these names that can be folded; None without any."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    folds = [found for norm in norms if norm.name in names and (found := _fold(model, norm))]
    if not folds:
        return None
    gone = {found.norm.name for found in folds}
    weights = {found.linear.name: found.weights for found in folds}

    def made(operation: keras.Operation) -> keras.Operation | None:
        if operation.name not in weights:
            return None
        return type(operation).from_config(operation.get_config() | {"use_bias": True})

    def change(operation: keras.Operation, args: tuple, kwargs: dict) -> keras.KerasTensor | None:
        return args[0] if operation.name in gone else None

    return copies.copied_model(model, parts.calling(change), made, weights)


def _fold(model: keras.Model, norm: keras.layers.BatchNormalization) -> _Fold | None:
    """What a BatchNormalization and the layer before it are together; None where they cannot be one."""
    linear = norm.input._keras_history.operation
    if not isinstance(linear, _LINEAR) or keras.activations.serialize(linear.activation) != "linear":
        return None
    readers = [op for op in model.operations if _reads(op, norm.input)]
    last_axis = norm.axis in (-1, len(norm.input.shape) - 1)
    if len(readers) != 1 or not last_axis or getattr(linear, "data_format", "channels_last") != "channels_last":
        return None
    mean, variance = np.asarray(norm.moving_mean, np.float64), np.asarray(norm.moving_variance, np.float64)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    scale = scale * np.asarray(norm.gamma) if norm.scale else scale
    shift = -mean * scale + (np.asarray(norm.beta) if norm.center else 0.0)
    *kernels, kernel = linear.get_weights()[: -1 if linear.use_bias else None]
    bias = np.asarray(linear.bias) if linear.use_bias else 0.0
    # The kernel of a depthwise convolution ends in channels and multiplier.
    depthwise = isinstance(linear, keras.layers.DepthwiseConv2D)
    folded = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    return _Fold(norm, linear, [*kernels, folded.astype(np.float32), (bias * scale + shift).astype(np.float32)])


def _reads(operation: keras.Operation, tensor: keras.KerasTensor) -> bool:
    if isinstance(operation, keras.layers.InputLayer):
        return False
    return any(one is tensor for one in keras.tree.flatten(operation.input))
