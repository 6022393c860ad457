"""Learning rates by depth: what `head_lr` and `layer_decay` make of the rate of each variable."""

import keras

from kerasft.networks import blocks
from kerasft.networks.network import Network
from kerasft.strategies.phase import Phase


def multipliers(network: Network, phase: Phase, model: keras.Model) -> list[float]:
    """The factor of each variable's learning rate, in the order of `model.trainable_variables`.

    A variable of the head has the factor `head_lr`. One of the d-th block below the head has `layer_decay ** d`
    (ELECTRA, Clark et al. 2020; BEiT, Bao et al. 2022). What stands before the first block counts as part of it.

    Args:
        network: whose blocks are counted.
        model: the network's own, or another with layers of the same names, such as its end.
    """
    starts, factor, factors = blocks.starts(network), phase.layer_decay ** len(blocks.starts(network)), {}
    passed = 0
    for name in network.backbone:
        if name in starts:
            passed += 1
            factor = phase.layer_decay ** (len(starts) + 1 - passed)
        factors[name] = factor
    by_variable = {
        id(variable): factors.get(layer.name, phase.head_lr) for layer in model.layers for variable in layer.variables
    }
    return [by_variable[id(variable)] for variable in model.trainable_variables]
