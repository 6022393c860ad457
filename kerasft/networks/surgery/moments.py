"""Mean and variance of activations without data: BatchNormalization says how its outputs are distributed."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

_layers = keras.layers

# Layers whose outputs have about the mean and the variance of their inputs.
_PASSING = (
    _layers.Identity,
    _layers.Dropout,
    _layers.SpatialDropout2D,
    _layers.ZeroPadding2D,
    _layers.AveragePooling2D,
    _layers.GlobalAveragePooling2D,
)

# Nodes of the quadrature. Activations have a kink, so a few would not do.
_NODES = 61


class Moments(NamedTuple):
    """Mean and variance of each channel, float64 [C]."""

    mean: np.ndarray
    variance: np.ndarray


def trace(model: keras.Model) -> dict[int, Moments]:
    """The moments of the tensors of a model, by their `id`; without those that cannot be told.

    The outputs of BatchNormalization count as normal, with mean beta and standard deviation |gamma|, and those of different
    layers as independent (Nagel et al. 2019, section 4.2).
    """
    found = {}
    for operation in model.operations:
        if not isinstance(operation, _layers.InputLayer):
            tensors = keras.tree.flatten(operation.input)
            moments = _moments(operation, [found.get(id(tensor)) for tensor in tensors])
            if moments is not None:
                found[id(operation.output)] = moments
    return found


def _moments(operation: keras.Operation, given: list[Moments | None]) -> Moments | None:
    """The moments of what an operation gives."""
    if isinstance(operation, _layers.BatchNormalization):
        size = operation.moving_mean.shape[0]
        beta = np.asarray(operation.beta, np.float64) if operation.center else np.zeros(size)
        gamma = np.asarray(operation.gamma, np.float64) if operation.scale else np.ones(size)
        return Moments(beta, gamma**2)
    if None in given:
        return None
    if isinstance(operation, _layers.Add) or (type(operation).__name__ == "Add" and len(given) == 2):
        return Moments(sum(one.mean for one in given), sum(one.variance for one in given))
    if isinstance(operation, _layers.Concatenate):
        return Moments(*(np.concatenate(figures) for figures in zip(*given, strict=True)))
    if isinstance(operation, _PASSING):
        return given[0]
    function = _function(operation)
    return _of_function(function, given[0]) if function else None


def _function(operation: keras.Operation) -> Callable | None:
    """What an activation layer computes of each value; None for other operations."""
    if isinstance(operation, _layers.Activation):
        return None if operation.activation is keras.activations.softmax else operation.activation
    known = (_layers.ReLU, _layers.LeakyReLU, _layers.ELU)
    return operation if isinstance(operation, known) or type(operation).__name__ in ("Relu", "Relu6", "Silu") else None


def _of_function(function: Callable, given: Moments) -> Moments:
    """The moments of a function of normal values, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    values = given.mean + np.outer(nodes, np.sqrt(given.variance))
    values = np.asarray(function(keras.ops.convert_to_tensor(values, "float32")), np.float64)
    mean = weights @ values
    return Moments(mean, weights @ (values - mean) ** 2)
