"""Depths: the places of a backbone whose pooled activations a head can see, and a network whose head sees some of them.

Early layers know textures and places, late ones know the classes of the pretraining. Data far from these are told apart
better with both (Head2Toe, Evci et al. 2022).
"""

import keras

from kerasft.networks import heads, layer_names
from kerasft.networks.blending import Blend
from kerasft.networks.network import Network
from kerasft.settings.config import Config

# Channels of all depths together; of a wider backbone only every second, fourth ... block is a candidate.
MAX_CHANNELS = 8_300


def find_depths(network: Network) -> tuple[str, ...]:
    """Finds the operations that end a block of the backbone, from input to output; the last gives the backbone's output.

    A block is what lies between two cut points and holds weights, with what lies behind it and holds none. The
    channels of the result are `MAX_CHANNELS` at most, where the last alone is not wider.
    """
    operations = {operation.name: operation for operation in network.model.operations}
    block_ends, weighted, following = [], False, False
    for name in network.backbone[:-1]:
        weighted = weighted or _learns(operations[name])
        if name not in network.cuts:
            continue
        if weighted:
            block_ends.append(name)
            following = True
        elif following and not isinstance(operations[name], keras.layers.ZeroPadding2D):
            block_ends[-1] = name  # a normalisation or an activation belongs to the block before it
        weighted = False
    last = network.backbone[-1]
    # A class token is only one of the tokens that the last block gives.
    whole = not isinstance(operations[last], keras.layers.Cropping1D)
    if block_ends and whole and not weighted and not _learns(operations[last]):
        block_ends.pop()  # the output is that block's own end
    block_ends = [name for name in block_ends if len(operations[name].output.shape) in (3, 4)]
    step = 1
    while True:
        chosen = (*reversed(block_ends[::-1][step - 1 :: step]), last)
        if len(chosen) == 1 or sum(operations[name].output.shape[-1] for name in chosen) <= MAX_CHANNELS:
            return chosen
        step *= 2


def with_depths(network: Network, config: Config, depths: tuple[str, ...]) -> Network:
    """The network with a new head on the pooled activations of several depths. The backbone's layers are its own.

    Args:
        depths: names that `find_depths` gave, in its order, with the last.

    Raises:
        UserError: a head that pools one depth only.
    """
    if depths == network.depths:
        return network
    operations = {operation.name: operation for operation in network.model.operations}
    tensors = [operations[name].output for name in depths]
    features = tensors if len(tensors) > 1 else tensors[0]
    outputs = network.model.output_shape[-1]
    output = heads.build_outputs(config.head, network.head_init, features, outputs, network.task)
    model = keras.Model(network.model.inputs[0], output, name=network.model.name)
    return network._replace(model=model, depths=depths)


def widths(network: Network) -> list[int]:
    """The number of features that the head sees of each depth."""
    if len(network.depths) < 2:
        return [network.model.get_layer(layer_names.FEATURES).output.shape[-1]]
    names = [f"{layer_names.POOLED}{number}" for number in range(1, len(network.depths) + 1)]
    return [network.model.get_layer(name).output.shape[-1] for name in names]


def early(network: Network, cut: str) -> list[keras.KerasTensor]:
    """The pooled activations [N, C] of the depths that come before a cut point: what lies behind it needs them too."""
    index = network.backbone.index(cut)
    before = [number for number, name in enumerate(network.depths, 1) if network.backbone.index(name) < index]
    return [network.model.get_layer(f"{layer_names.POOLED}{number}").output for number in before]


def _learns(operation: keras.Operation) -> bool:
    """Whether an operation holds weights other than those of a normalisation, a blended activation or an adapter."""
    # The sum behind an adapter takes the place of the end of its block.
    if operation.name.startswith(layer_names.ADAPTER_PREFIX):
        return False
    layers = keras.layers
    norms = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.Normalization)
    return isinstance(operation, keras.Layer) and not isinstance(operation, (*norms, Blend)) and bool(operation.weights)
