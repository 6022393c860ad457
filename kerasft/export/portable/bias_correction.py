"""Biases that make up for weights in 8 bits (Nagel et al. 2019, arxiv.org/abs/1906.04721, section 4.2).

A rounded kernel has errors. On inputs with a mean they shift each output channel by a constant, which the layers behind add
up. The bias takes this constant off. So it is the same for every format whose weights are 8 bits a channel.
"""

import keras
import numpy as np

from kerasft.networks import copies, eight_bits, flip_averaging
from kerasft.networks.network import Network
from kerasft.networks.surgery.fold_batchnorm import folded_model


def correct_biases(network: Network, images: np.ndarray) -> Network:
    """Returns a copy of a network whose kernels are rounded to 8 bits a channel, and whose biases make up for that.

    BatchNormalization is folded before, as every converter does. Layers without a bias keep their kernel. Kernels that a
    phase `quantised` has left are rounded already, so nothing changes.

    Args:
        network: the trained network, in float32.
        images: training images, float32 [N, S, S, 3], RGB in 0..255.
    """
    flat = flip_averaging.without_mirroring(network.model)
    folded = folded_model(flat, [layer.name for layer in flat.layers])
    model = folded or copies.copied_model(flat)
    layers = [layer for layer in model.layers if isinstance(layer, eight_bits.LINEAR) and layer.use_bias]
    for layer, mean in zip(layers, eight_bits.input_means(model, layers, images)):
        kernel, bias = layer.get_weights()
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        rounded = eight_bits.round_kernel(kernel, depthwise)
        layer.set_weights([rounded, bias + eight_bits.output_shift(kernel - rounded, mean, depthwise)])
    return network._replace(model=model if flat is network.model else flip_averaging.average_mirrored(model))
