"""Test-time augmentation by mirroring: a model that answers the mean over an image and its mirror image.

What is averaged is what the network gives: logits, or values under regression. The mean of logits is the geometric mean of
the probabilities, normalised.
"""

import keras

from kerasft.networks import layer_names


def average_mirrored(model: keras.Model) -> keras.Model:
    """The model that calls `model` on images [N, S, S, 3] and on their mirror images, and gives the mean of both.

    It has the weights of `model`, which stays as it is. It needs twice the time.
    """
    images = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)
    plain = keras.Model(model.inputs[0], model.output, name=model.name)
    both = [plain(images), plain(keras.ops.flip(images, axis=2))]
    return keras.Model(images, keras.layers.Average(name=layer_names.MIRRORED)(both), name=model.name)


def without_mirroring(model: keras.Model) -> keras.Model:
    """The model that `average_mirrored` was given; any other model as it is."""
    if layer_names.MIRRORED not in [layer.name for layer in model.layers]:
        return model
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))
