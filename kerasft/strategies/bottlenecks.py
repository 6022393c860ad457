"""Bottleneck adapters: small residual layers that are put into a network behind its blocks."""

import math

import keras

from kerasft.networks import blocks, copies
from kerasft.networks.layer_names import ADAPTER_PREFIX
from kerasft.networks.network import Network


def with_adapters(network: Network, reduction: float) -> Network:
    """A copy of the network with a bottleneck behind each block: x + up(gelu(down(x))) (Houlsby et al. 2019).

    `up` is zero, so the outputs are the same.

    Args:
        network: without adapters.
        reduction: channels of a block, divided by those of its bottleneck.
    """
    behind = {end: index for index, end in enumerate(blocks.ends(network)) if end is not None}

    def called(operation: keras.Operation, *args, **kwargs):
        outputs = operation(*args, **kwargs)
        return _bottleneck(outputs, behind[operation.name], reduction) if operation.name in behind else outputs

    model = copies.copied(network, called)
    names = [operation.name for operation in model.operations]
    backbone = tuple(name for name in names if name in network.backbone or name.startswith(ADAPTER_PREFIX))
    sums = [name for name in backbone if name.startswith(ADAPTER_PREFIX) and name.endswith("_add")]
    cut_points = tuple(name for name in backbone if name in network.cuts or name in sums)
    depths = tuple(f"{ADAPTER_PREFIX}{behind[name]:02d}_add" if name in behind else name for name in network.depths)
    return network._replace(model=model, backbone=backbone, cuts=cut_points, depths=depths)


def _bottleneck(outputs: keras.KerasTensor, index: int, reduction: float) -> keras.KerasTensor:
    """What a block gives, with its adapter behind."""
    channels = outputs.shape[-1]
    narrow = max(1, math.ceil(channels / reduction))
    name = f"{ADAPTER_PREFIX}{index:02d}"

    def dense(units: int, part: str, kernel: keras.initializers.Initializer | str) -> keras.layers.Layer:
        # A dense layer over the channels of an image is a convolution of one pixel.
        given = {"kernel_initializer": kernel, "name": f"{name}_{part}"}
        return keras.layers.Conv2D(units, 1, **given) if len(outputs.shape) == 4 else keras.layers.Dense(units, **given)

    hidden = dense(narrow, "down", keras.initializers.HeNormal(seed=index))(outputs)
    hidden = keras.layers.Activation("gelu", name=f"{name}_gelu")(hidden)
    return keras.layers.Add(name=f"{name}_add")([outputs, dense(channels, "up", "zeros")(hidden)])
