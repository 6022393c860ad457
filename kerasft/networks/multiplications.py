"""The work of a forward pass: multiplications, and values that are written."""

import math

import keras

# A training step multiplies about as often as this many forward passes: one forward, and two backward.
MULTIPLICATIONS_PER_STEP = 3

# A value that is written takes about as long as so many multiplications, for it waits for the memory (docs/benchmarks.md, "the work of a half").
MULTIPLICATIONS_PER_WRITE = 20


def multiplications(model: keras.Model) -> int:
    """Multiplications of a forward pass over one image: those of kernels, without those of normalisation."""
    total = 0
    for operation in model.operations:
        weights = getattr(operation, "weights", [])
        kernels = [math.prod(weight.shape) for weight in weights if len(weight.shape) > 1]
        # A recurrent layer multiplies at each step, whatever it returns.
        recurrent = isinstance(operation, (keras.layers.RNN, keras.layers.Bidirectional))
        shape = (operation.input if recurrent else keras.tree.flatten(operation.output)[0]).shape
        total += math.prod(shape[1:-1]) * sum(kernels)
    return total


def written_values(model: keras.Model) -> int:
    """Values that the operations of a forward pass over one image write."""
    outputs = [tensor for operation in model.operations for tensor in keras.tree.flatten(operation.output)]
    return sum(math.prod(tensor.shape[1:]) for tensor in outputs)


def forward_work(model: keras.Model) -> float:
    """Work of a forward pass over one image: its multiplications, and `MULTIPLICATIONS_PER_WRITE` for each value that is written."""
    return float(multiplications(model) + MULTIPLICATIONS_PER_WRITE * written_values(model))
