"""The domain shift of a run's images: how far they are from the images of the pretraining, by the statistics of BatchNormalization."""

import math

import keras
import numpy as np
import tensorflow as tf

from kerasft.data import pipeline
from kerasft.data.splits import Split
from kerasft.networks.network import Network

# Images of the training split that are measured, at even distances.
IMAGES = 64

# With fewer images the shift is mostly noise.
MIN_IMAGES = 16

# Images whose activations are in memory at once.
IMAGES_AT_ONCE = 8


def measure(network: Network, split: Split) -> float | None:
    """Returns the domain shift of a split. It is about 0 for the images of the pretraining, and 0.16 to 0.4 for hands and digits.

    A BatchNormalization keeps the mean and variance that its inputs had in the pretraining. Images of another domain have
    other ones (Li et al. 2017, "Revisiting Batch Normalization For Practical Domain Adaptation"). The shift of a channel is
    `(mean - moving_mean)^2 / moving_variance`, less its expected sampling noise. The result is the mean over channels, then over layers.

    Args:
        network: its weights are still those of the pretraining.
        split: the training images.

    Returns:
        None if the backbone has no BatchNormalization or no pretrained weights, if there are fewer than `MIN_IMAGES` images, or
        if the activations are no finite numbers.
    """
    pairs = _normalisations(network) if network.pretrained else []
    if not pairs or len(split) < MIN_IMAGES:
        return None
    layers, inputs = zip(*pairs)
    to_inputs = keras.Model(network.model.inputs[0], list(inputs))
    rows = np.unique(np.linspace(0, len(split) - 1, IMAGES).astype(int))
    means_by_layer = [[] for _ in layers]
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = pipeline.decoded_images(split, rows[start : start + IMAGES_AT_ONCE], network.size)
        # Eagerly, for tracing takes longer.
        activations = tf.nest.flatten(to_inputs(tf.cast(images, tf.float32), training=False))
        for layer, activation, means in zip(layers, activations, means_by_layer):
            rank = activation.shape.rank
            # All axes but those of images and of channels, which `axis` may count from the end.
            places = [axis for axis in range(1, rank) if axis != layer.axis % rank]
            means.append(np.asarray(tf.reduce_mean(tf.cast(activation, tf.float32), places)))
    shifts = [_shift(layer, np.concatenate(means)) for layer, means in zip(layers, means_by_layer)]
    found = float(np.mean(shifts))
    return max(0.0, found) if math.isfinite(found) else None


def _shift(layer: keras.layers.BatchNormalization, means: np.ndarray) -> float:
    """Returns the mean shift of the channels of a layer.

    Args:
        means: float32 [N, C], the mean input of each channel for each image.
    """
    noise = means.var(0, ddof=1) / len(means)
    squares = np.square(means.mean(0) - np.asarray(layer.moving_mean)) - noise
    return float(np.mean(squares / (np.asarray(layer.moving_variance) + layer.epsilon)))


def _normalisations(network: Network) -> list[tuple[keras.layers.BatchNormalization, keras.KerasTensor]]:
    """Returns each BatchNormalization of the backbone with its input."""
    nodes = [node for group in network.model._nodes_by_depth.values() for node in group]
    return [
        (node.operation, node.input_tensors[0])
        for node in nodes
        if isinstance(node.operation, keras.layers.BatchNormalization) and node.operation.name in network.backbone
    ]
