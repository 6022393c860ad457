"""Kernels in 8 bits a channel: how they are rounded, and how rounding shifts what a layer gives."""

import keras
import numpy as np

# Symmetric whole numbers of 8 bits, as LiteRT and ONNX Runtime round weights.
MAX_WEIGHT = 127

# Images of a call, which bounds the memory.
BATCH_SIZE = 8

# Layers of one kernel, whose errors the bias makes up for.
LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def channel_axes(rank: int, depthwise: bool) -> tuple[int, ...]:
    """The axes of a kernel that one output channel spans.

    Args:
        rank: of the kernel.
        depthwise: whether its last two axes are channels and multiplier; else the last one is the output channels.
    """
    return tuple(range(rank - 2 if depthwise else rank - 1))


def round_kernel(kernel: np.ndarray, depthwise: bool) -> np.ndarray:
    """Returns a kernel whose weights are whole multiples of an output channel's largest weight over 127.

    A channel may be scaled before or after, by the factor of a BatchNormalization that is folded in: that gives the same.

    Args:
        kernel: float32 [h, w, C, multiplier] if depthwise, else [..., O].
    """
    step = np.abs(kernel).max(channel_axes(kernel.ndim, depthwise), keepdims=True) / MAX_WEIGHT
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


def input_means(model: keras.Model, layers: list[keras.Layer], images: np.ndarray) -> list[np.ndarray]:
    """The mean of each channel of the layers' inputs over all images and places, float64 [I] each."""
    means = [keras.ops.mean(layer.input, axis=list(range(1, len(layer.input.shape) - 1))) for layer in layers]
    inside = keras.Model(model.inputs[0], means)
    parts = [inside(images[i : i + BATCH_SIZE], training=False) for i in range(0, len(images), BATCH_SIZE)]
    return [np.concatenate([np.asarray(one, np.float64) for one in column]).mean(0) for column in zip(*parts)]
