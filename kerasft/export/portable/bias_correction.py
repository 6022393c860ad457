"""Biases that make up for weights in 8 bits (Nagel et al. 2019, arxiv.org/abs/1906.04721, section 4.2).

A rounded kernel has errors. On inputs with a mean they shift each output channel by a constant, which the layers behind add
up. The bias takes this constant off. So it is the same for every format whose weights are 8 bits a channel.
"""

import keras
import numpy as np

from kerasft.networks import copies, mirrored
from kerasft.networks.network import Network
from kerasft.networks.surgery.fold_batchnorm import folded_model

# Symmetric whole numbers of 8 bits, as LiteRT and ONNX Runtime round weights.
MAX_WEIGHT = 127

# Images of a call, which bounds the memory.
BATCH_SIZE = 8

_LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def correct_biases(network: Network, images: np.ndarray) -> Network:
    """Returns a copy of a network whose kernels are rounded to 8 bits a channel, and whose biases make up for that.

    BatchNormalization is folded before, as every converter does. Layers without a bias keep their kernel.

    Args:
        network: the trained network, in float32.
        images: training images, float32 [N, S, S, 3], RGB in 0..255.
    """
    flat = mirrored.without_mirroring(network.model)
    folded = folded_model(flat, [layer.name for layer in flat.layers])
    model = folded or copies.copied_model(flat)
    layers = [layer for layer in model.layers if isinstance(layer, _LINEAR) and layer.use_bias]
    for layer, mean in zip(layers, _input_means(model, layers, images)):
        kernel, bias = layer.get_weights()
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        rounded = round_kernel(kernel, depthwise)
        layer.set_weights([rounded, bias + output_shift(kernel - rounded, mean, depthwise)])
    return network._replace(model=model if flat is network.model else mirrored.average_mirrored(model))


def round_kernel(kernel: np.ndarray, depthwise: bool) -> np.ndarray:
    """Returns a kernel whose weights are whole multiples of an output channel's largest weight over 127.

    Args:
        kernel: float32 [h, w, C, multiplier] if depthwise, else [..., O].
    """
    axes = (0, 1) if depthwise else tuple(range(kernel.ndim - 1))
    step = np.abs(kernel).max(axes, keepdims=True) / MAX_WEIGHT
    step = np.where(step == 0, 1, step)
    return (np.rint(kernel / step) * step).astype(np.float32)


def output_shift(error: np.ndarray, mean: np.ndarray, depthwise: bool) -> np.ndarray:
    """Returns the mean of what an error of the kernel takes from each output channel, float32 [O].

    Zeros around an image are not counted.

    Args:
        error: of the kernel, in its shape.
        mean: of each input channel, float [I].
    """
    if depthwise:
        return (error.sum((0, 1)) * mean[:, np.newaxis]).reshape(-1).astype(np.float32)
    error = error.reshape(-1, *error.shape[-2:]).sum(0)
    # Each group of output channels reads its own input channels.
    groups = len(mean) // error.shape[0]
    by_group = error.reshape(error.shape[0], groups, -1)
    return np.einsum("gi,igo->go", mean.reshape(groups, -1), by_group).reshape(-1).astype(np.float32)


def _input_means(model: keras.Model, layers: list[keras.Layer], images: np.ndarray) -> list[np.ndarray]:
    """The mean of each channel of the layers' inputs over all images and places, float64 [I] each."""
    means = [keras.ops.mean(layer.input, axis=list(range(1, len(layer.input.shape) - 1))) for layer in layers]
    inside = keras.Model(model.inputs[0], means)
    parts = [inside(images[i : i + BATCH_SIZE], training=False) for i in range(0, len(images), BATCH_SIZE)]
    return [np.concatenate([np.asarray(one, np.float64) for one in column]).mean(0) for column in zip(*parts)]
