"""`dropout`: channels are dropped behind the backbone's blocks in training."""

import keras

from kerasft.networks import copies
from kerasft.networks.blocks import ends
from kerasft.networks.network import Network
from kerasft.networks.surgery import parts

# By the rank of what a block gives: images, tokens or vectors.
_LAYERS = {4: keras.layers.SpatialDropout2D, 3: keras.layers.SpatialDropout1D, 2: keras.layers.Dropout}


def dropout(network: Network, rate: float = 0.1, blocks: float = 1.0) -> Network:
    """The network with spatial dropout behind its blocks (Tompson et al. 2015): whole channels are dropped at once.

    Only training draws, and only in blocks that a phase does not freeze.

    Args:
        rate: share of the channels that are dropped, in (0, 1).
        blocks: of the backbone, the last ones, as a fraction.

    Raises:
        ValueError: a number out of its range, or a network that has hardly any cut points.
    """
    parts.check_fraction(rate, "rate")
    chosen = parts.last_blocks(network, blocks)
    behind = chosen.intersection(name for name in ends(network) if name)
    if not behind:
        raise ValueError(f"finds no block in {network.name}: it has hardly any cut points")

    def change(operation: keras.Operation, args: tuple, kwargs: dict) -> keras.KerasTensor | None:
        if operation.name not in behind:
            return None
        outputs = operation(*args, **kwargs)
        layer = _LAYERS[len(outputs.shape)]
        return layer(rate, name=f"{operation.name}_dropout", dtype="float32")(outputs)

    return parts.with_model(network, copies.copied(network, parts.calling(change)))
