"""Residual sums of a backbone: where a block adds what it computed to its own input."""

from typing import NamedTuple

import keras

from kerasft.networks.network import Network


class ResidualSum(NamedTuple):
    """A residual sum.

    Attributes:
        name: of the operation that adds.
        branch: which of its two inputs is what the block computed, 0 or 1.
        last: name of the operation that gives this input.
    """

    name: str
    branch: int
    last: str


def find(network: Network) -> list[ResidualSum]:
    """Finds the residual sums of a backbone, from input to output.

    They are additions of two tensors at a cut point, whose ways part at the cut point before. The branch is the way that
    holds more weights; the other is the block's input, or a projection of it (He et al. 2016).
    """
    operations = {operation.name: operation for operation in network.model.operations}
    found, before = [], None
    for name in network.backbone:
        if name not in network.cuts:
            continue
        tensors = _summands(operations[name])
        if before is not None and len(tensors) == 2:
            ways = [_way(tensor, before) for tensor in tensors]
            counts = [sum(map(_holds_kernel, way)) for way in ways]
            if counts[0] != counts[1]:
                branch = int(counts[1] > counts[0])
                found.append(ResidualSum(name, branch, tensors[branch]._keras_history.operation.name))
        before = name
    return found


def _summands(operation: keras.Operation) -> list[keras.KerasTensor]:
    # A plain `a + b` is an operation of the same name in keras.ops.
    if type(operation).__name__ != "Add":
        return []
    return [value for value in keras.tree.flatten(operation.input) if isinstance(value, keras.KerasTensor)]


def _way(tensor: keras.KerasTensor, before: str) -> list[keras.Operation]:
    """The operations between a cut point and a tensor."""
    found, waiting = {}, [tensor._keras_history.operation]
    while waiting:
        operation = waiting.pop()
        if operation.name == before or operation.name in found:
            continue
        found[operation.name] = operation
        inputs = [] if isinstance(operation, keras.layers.InputLayer) else keras.tree.flatten(operation.input)
        waiting += [one._keras_history.operation for one in inputs]
    return list(found.values())


def _holds_kernel(operation: keras.Operation) -> bool:
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", []))
