"""How far the images of a run are from those of the pretraining, by the statistics that BatchNormalization keeps of these."""

import keras
import numpy as np
import tensorflow as tf

from kerasft.data import pipeline
from kerasft.data.splits import Split
from kerasft.networks.network import Network

# Images of the training split that are looked at, at even distances.
IMAGES = 64

# Fewer images tell nothing: those of six differ by as much as far ones do.
MIN_IMAGES = 16

# Images whose activations are in memory at once.
IMAGES_AT_ONCE = 8


def measure(network: Network, split: Split) -> float | None:
    """Returns the domain shift; None where the backbone has no BatchNormalization with weights of a pretraining, or of few images.

    The moving statistics of BatchNormalization tell what the activations were in the pretraining. On images of another kind they
    are others (Li et al. 2017, "Revisiting Batch Normalization For Practical Domain Adaptation"). The shift of a channel is the
    squared difference between its mean on these images and its moving mean, in moving variances, without what the choice of
    the images adds to it on average. The domain shift is the mean over the channels of a layer, and over the layers. It is about 0
    on the images of the pretraining.

    Args:
        network: with pretrained weights that nothing has trained yet.
        split: of training.
    """
    pairs = _normalisations(network) if network.pretrained else []
    if not pairs or len(split) < MIN_IMAGES:
        return None
    layers, inputs = zip(*pairs)
    inner = keras.Model(network.model.inputs[0], list(inputs))
    rows = np.unique(np.linspace(0, len(split) - 1, IMAGES).astype(int))
    # Of each layer the means by image and channel.
    found = [[] for _ in layers]
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = pipeline.decoded_images(split, rows[start : start + IMAGES_AT_ONCE], network.size)
        # Eagerly, for tracing takes longer.
        outputs = tf.nest.flatten(inner(tf.cast(images, tf.float32), training=False))
        for layer, one, means in zip(layers, outputs, found):
            others = [axis for axis in range(1, one.shape.rank) if axis != layer.axis % one.shape.rank]
            means.append(np.asarray(tf.reduce_mean(tf.cast(one, tf.float32), others)))
    return max(0.0, float(np.mean([_shift(layer, np.concatenate(means)) for layer, means in zip(layers, found)])))


def _shift(layer: keras.layers.BatchNormalization, means: np.ndarray) -> float:
    """The mean shift of the channels of a layer.

    Args:
        means: float32 [N, C], of its inputs by image and channel.
    """
    noise = means.var(0, ddof=1) / len(means)
    squares = np.square(means.mean(0) - np.asarray(layer.moving_mean)) - noise
    return float(np.mean(squares / (np.asarray(layer.moving_variance) + layer.epsilon)))


def _normalisations(network: Network) -> list[tuple[keras.layers.BatchNormalization, keras.KerasTensor]]:
    """Each BatchNormalization of the backbone, with its input."""
    nodes = [node for group in network.model._nodes_by_depth.values() for node in group]
    return [
        (node.operation, node.input_tensors[0])
        for node in nodes
        if isinstance(node.operation, keras.layers.BatchNormalization) and node.operation.name in network.backbone
    ]
