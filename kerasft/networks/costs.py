"""What a forward pass costs."""

import math

import keras


def multiplications(model: keras.Model) -> int:
    """Multiplications of a forward pass over one image: those of kernels, without those of normalisation."""
    total = 0
    for operation in model.operations:
        weights = getattr(operation, "weights", [])
        kernels = [math.prod(weight.shape) for weight in weights if len(weight.shape) > 1]
        total += math.prod(operation.output.shape[1:-1]) * sum(kernels)
    return total


def written_values(model: keras.Model) -> int:
    """Values that the operations of a forward pass over one image write."""
    return sum(math.prod(operation.output.shape[1:]) for operation in model.operations)
