"""Blocks of a backbone: what strategies freeze and surgeries change by fractions."""

import math

import keras

from kerasft.networks.blending import Blend
from kerasft.networks.layer_names import ADAPTER_PREFIX, EIGHT_BITS_SUFFIX
from kerasft.networks.network import Network

# Blocks between cut points: with fewer, fractions of them mean little.
MIN_BLOCKS = 6

# Layers that normalise with trained scales, offsets or both.
NORMALISATION = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)


def starts(network: Network) -> list[str]:
    """The first layer of each of the backbone's blocks, input to output.

    A block is a stretch between two cut points that holds weights to train (other than normalisation), with the
    stretches behind it that hold none. In a network that has hardly any cut points (NASNet's cells look back over
    two others) every layer with such weights is one.
    """
    found, opening, weighted = [], None, False
    operations = {operation.name: operation for operation in network.model.operations}
    for name in network.backbone:
        layer = operations[name]
        opening = opening or name
        weighted = weighted or _learns(layer)
        if name in network.cuts:
            if weighted:
                found.append(opening)
            opening, weighted = None, False
    return found if len(found) >= MIN_BLOCKS else [name for name in network.backbone if _learns(operations[name])]


def ends(network: Network) -> list[str | None]:
    """For each block the cut point at its end; None for a layer of a network that has hardly any cut points."""
    places = [network.backbone.index(name) for name in starts(network)]
    cuts = [index for index, name in enumerate(network.backbone) if name in network.cuts]
    found = []
    for start, following in zip(places, [*places[1:], len(network.backbone)], strict=True):
        end = max((cut for cut in cuts if cut < following), default=None)
        found.append(network.backbone[end] if end is not None and end >= start else None)
    return found


def start_of_last(network: Network, fraction: float) -> str:
    """The first layer of the last blocks.

    Args:
        fraction: of all blocks, rounded up, in (0, 1].
    """
    found = starts(network)
    return found[-math.ceil(fraction * len(found))]


def _learns(operation: keras.Operation) -> bool:
    """Whether an operation holds weights other than those of a normalisation or a blended activation."""
    others = (*NORMALISATION, keras.layers.Normalization, Blend)
    weighted = isinstance(operation, keras.Layer) and not isinstance(operation, others) and bool(operation.weights)
    # An adapter belongs to the block that it stands behind, and the range of a rounding is measured.
    added = operation.name.startswith(ADAPTER_PREFIX) or operation.name.endswith(EIGHT_BITS_SUFFIX)
    return weighted and not added
