"""Statistics of BatchNormalization for weights that no step has computed with, such as averaged ones."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

# Batches at most: the mean over so many is as good as over all.
MAX_BATCHES = 100


def training_pass(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A forward pass in training mode, traced once, with the weights as they are at each call."""
    return tf.function(lambda inputs: model(inputs, training=True), reduce_retracing=True)


def estimate(
    forward: Callable[[tf.Tensor], tf.Tensor],
    layers: list[keras.layers.BatchNormalization],
    batches: tf.data.Dataset,
) -> None:
    """Sets the moving statistics of layers to the means over batches (Izmailov et al. 2018, section 3.3).

    Each batch goes through the model in training mode, with the statistics at 0 before: what a layer then holds is
    1 - momentum times the statistics of the batch.

    Args:
        forward: as `training_pass` makes it, of the model with the weights that are wanted. Only the statistics change,
            and the seeds of dropout if there is any.
        layers: that train, inside the model.
        batches: of inputs, labels and whatever else; at least one.
    """
    pairs = [(variable, layer.momentum) for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    sums, count = [0.0] * len(pairs), 0
    for inputs, *_ in batches:
        for variable, _ in pairs:
            variable.assign(np.zeros(variable.shape, np.float32))
        forward(inputs)
        sums = [total + np.asarray(variable) / (1 - momentum) for total, (variable, momentum) in zip(sums, pairs)]
        count += 1
    for total, (variable, _) in zip(sums, pairs):
        variable.assign(total / count)
