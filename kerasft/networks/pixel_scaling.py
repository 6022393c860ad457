"""Scaling of pixels: what a network does to RGB in 0..255 before its first layer with weights to train."""

import keras
import numpy as np

from kerasft.networks import layer_names

# How the networks of a module of keras.applications expect RGB in 0..255 to be preprocessed (keras.io/api/applications).
# tf: scaled to -1..1. torch: standardised with the statistics of ImageNet. caffe: BGR minus the mean of ImageNet.
MODES = {
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "densenet": "torch",
    "efficientnet": "torch",
    "efficientnet_v2": "torch",
    "convnext": "torch",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
    "inception_v3": "tf",
    "inception_resnet_v2": "tf",
    "nasnet": "tf",
}
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# Layers, and classes of operations, that scale or shift the pixels.
_SCALING_LAYERS = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.BatchNormalization)
_SCALING_OPERATIONS = ("TrueDivide", "Divide", "Multiply", "Subtract", "Add")


def add(inputs: keras.KerasTensor, preprocessing: str) -> keras.KerasTensor:
    """Does what the `preprocess_input` of a family does to RGB in 0..255, in layers that are saved with the model.

    Args:
        inputs: [N, S, S, 3].
        preprocessing: a name in `MODES`, or `dataset`.
    """
    if preprocessing == "dataset":
        # This layer has no weights, so that weights files still fit.
        return keras.layers.Rescaling(np.nan, name=layer_names.PREPROCESS)(inputs)
    mode = MODES[preprocessing]
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, -1.0, name=layer_names.PREPROCESS)(inputs)
    if mode == "torch":
        scale, offset = 1 / (255 * IMAGENET_STD), -IMAGENET_MEAN / IMAGENET_STD
        return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=layer_names.PREPROCESS)(inputs)
    bgr_offsets = [-103.939, -116.779, -123.68]
    return keras.layers.Rescaling(1.0, bgr_offsets, name=layer_names.PREPROCESS)(keras.ops.flip(inputs, axis=-1))


def has_own(model: keras.Model) -> bool:
    """Whether a flat model scales or shifts the pixels, by a layer or by operations, before its first other layer with weights."""
    for operation in model.operations:
        if isinstance(operation, _SCALING_LAYERS):
            return True
        if isinstance(operation, keras.Layer):
            if operation.weights:
                return False
        elif type(operation).__name__ in _SCALING_OPERATIONS and len(keras.tree.flatten(operation.input)) == 1:
            return True
    return False
