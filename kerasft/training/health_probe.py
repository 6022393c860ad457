"""Measures the health of a phase on one validation batch: gradients, updates and activations, block by block.

Nothing of the training changes by it: layers are called in inference mode, and no random number is drawn.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasft.evaluation.gradient_health import HEAD
from kerasft.networks import blocks
from kerasft.networks.fake_quantisation import FakeQuantisation
from kerasft.networks.network import Network
from kerasft.training.phase_run import PhaseRun
from kerasft.training.train_setup import gradient_scale, loss_of

# Images whose activations are in memory at once.
IMAGES_AT_ONCE = 8

# Operations whose output is 0 for every negative input.
_RELU_NAMES = ("relu", "relu6")

Measurement = dict[str, Any]


def make_probe(run: PhaseRun) -> Callable[[], Measurement] | None:
    """Returns a function that measures the model of a phase as it is now; None where there is no validation image.

    A measurement has `gradient` (norm over all blocks) and `blocks`, by name from the input on: `gradient` (norm of the
    loss's gradient, None where nothing trains), `weights` (norm of all weights of a block that trains), `update` (None, see `HealthCallback`),
    `scale` (root mean square of the block's outputs) and `dead` (share of the ReLU units that are 0 on all images).
    """
    model, images = run.inputs.evaluated, run.inputs.first_batch()
    count = min(len(images), max(run.setup.batch_size // run.state.micro_batches, 1))
    if not count:
        return None
    images, labels = images[:count], tf.constant(run.setup.splits.val.labels[:count])
    places = block_of_each(run.network)
    variables = trained_by_block(places, model)
    weights = weights_by_block(places, model)
    gradients = _make_gradients(run, model, images, labels, [one for group in variables.values() for one in group])
    activations = _make_activations(places, model, images)

    def probe() -> Measurement:
        squares = iter(gradients())
        blocks: dict[str, dict] = {}
        total = 0.0
        for name, found in activations().items():
            blocks[name] = {"gradient": None, "weights": None, "update": None, **found}
        for name, group in variables.items():
            square = sum(next(squares) for _ in group)
            total += square
            row = blocks.setdefault(name, {"update": None, "scale": None, "dead": None})
            row |= {"gradient": _root(square), "weights": norm_of(np.asarray(one) for one in weights[name])}
        order = {name: index for index, name in enumerate(dict.fromkeys(places.values()))}
        return {
            "gradient": _root(total),
            "blocks": dict(sorted(blocks.items(), key=lambda row: order.get(row[0], len(order)))),
        }

    return probe


def block_of_each(network: Network) -> dict[str, str]:
    """The block of each operation of the backbone, by name, from the input on: the name of the block's first layer.

    What stands before the first block, such as a normalisation, counts as part of it.
    """
    starts = blocks.starts(network)
    found, block = {}, starts[0] if starts else HEAD
    for name in network.backbone:
        block = name if name in starts else block
        found[name] = block
    return found


def trained_by_block(places: dict[str, str], model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The variables that train in a model, by the name of the block that holds them.

    Args:
        places: of `block_of_each`.
    """
    found: dict[str, list[keras.Variable]] = {}
    for layer in model.layers:
        if layer.trainable_variables:
            found.setdefault(places.get(layer.name, HEAD), []).extend(layer.trainable_variables)
    return found


def weights_by_block(places: dict[str, str], model: keras.Model) -> dict[str, list[keras.Variable]]:
    """All weights of each block that trains, those that a phase freezes included, without statistics.

    A phase may train offsets alone. They are small, and what counts is by how much the block changes.
    """
    statistics = keras.layers.Normalization, FakeQuantisation
    trained, found = trained_by_block(places, model), {}
    for layer in model.layers:
        block = places.get(layer.name, HEAD)
        if block in trained and not isinstance(layer, statistics):
            found.setdefault(block, []).extend(one for one in layer.weights if "moving_" not in one.path)
    return found


def norm_of(arrays: Any) -> float:
    """The Euclidean norm over all values of several arrays."""
    return _root(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays))


def _make_gradients(
    run: PhaseRun, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, variables: list[keras.Variable]
) -> Callable[[], list[float]]:
    """Returns a function to the squared norm of the loss's gradient by each variable."""
    loss = loss_of(run.setup, run.phase.loss)
    scale = gradient_scale(model)

    def gradients() -> list[float]:
        # Eagerly: one batch an epoch is not worth the seconds of tracing.
        with tf.GradientTape() as tape:
            value = scale * tf.reduce_mean(loss(labels, model(images, training=False)))
        found = tape.gradient(
            value, [one.value for one in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        # Those of an embedding are of the rows that were looked up.
        dense = [np.asarray(tf.convert_to_tensor(one), np.float64) for one in found]
        return [float(np.square(one / scale).sum()) for one in dense]

    return gradients


def _make_activations(places: dict[str, str], model: keras.Model, images: tf.Tensor) -> Callable[[], dict[str, dict]]:
    """Returns a function to `scale` and `dead` by block. The activations themselves are not kept."""
    ends: dict[str, keras.KerasTensor] = {}
    rectified: dict[str, list[keras.KerasTensor]] = {}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            operation, outputs = node.operation, node.outputs
            if isinstance(operation, keras.layers.InputLayer) or len(outputs) != 1:
                continue
            block = places.get(operation.name, HEAD)
            ends[block] = outputs[0]
            if _rectifies(operation):
                rectified.setdefault(block, []).append(outputs[0])
    tensors = [*ends.values(), *(one for group in rectified.values() for one in group)]
    inner = keras.Model(model.inputs[0], tensors)

    def activations() -> dict[str, dict]:
        squares, largest = [0.0] * len(ends), [-math.inf] * (len(tensors) - len(ends))
        # Eagerly, for tracing takes longer. All activations of a part are in memory at once.
        for start in range(0, len(images), IMAGES_AT_ONCE):
            batch = images[start : start + IMAGES_AT_ONCE]
            outputs = [tf.cast(one, tf.float32) for one in tf.nest.flatten(inner(batch, training=False))]
            for index, one in enumerate(outputs[: len(ends)]):
                squares[index] += float(tf.reduce_mean(tf.square(one))) * len(batch) / len(images)
            # Channels come last.
            for index, one in enumerate(outputs[len(ends) :]):
                channels = tf.reduce_max(one, axis=list(range(one.shape.rank - 1)))
                largest[index] = np.maximum(channels.numpy(), largest[index])
        found = {name: {"scale": _root(square), "dead": None} for name, square in zip(ends, squares)}
        remaining = iter(largest)
        for name, group in rectified.items():
            dead = sum(int((next(remaining) <= 0).sum()) for _ in group)
            found[name]["dead"] = dead / sum(one.shape[-1] for one in group)
        return found

    return activations


def _rectifies(operation: keras.Operation) -> bool:
    """Whether an operation ends in ReLU or ReLU6."""
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__.lower()) in _RELU_NAMES


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan
