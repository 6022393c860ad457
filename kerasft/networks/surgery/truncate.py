"""`truncate`: the last blocks of the backbone are dropped."""

import math

from kerasft.networks import blocks
from kerasft.networks.network import Network
from kerasft.networks.surgery import parts


def truncate(network: Network, keep: float = 0.8) -> Network:
    """The network of the first blocks, with a new head on what they give.

    It ends at a cut point, so nothing that it computes is left unused. The layers are the network's own. (Yosinski et al.
    2014: late layers know the classes of the pretraining, early ones more general features.)

    Args:
        keep: fraction of the blocks that stay, rounded up.

    Raises:
        ValueError: no fraction in (0, 1), or a network that cannot be cut there.
    """
    parts.check_fraction(keep, "keep")
    ends = blocks.ends(network)
    kept = ends[: math.ceil(keep * len(ends))]
    if len(kept) == len(ends):
        raise ValueError(f"keep={keep} drops none of the {len(ends)} blocks of {network.name}")
    if kept[-1] is None:
        raise ValueError(f"{network.name} cannot be cut there: later layers look back over several others")
    operations = {operation.name: operation for operation in network.model.operations}
    return parts.with_new_head(network, network.model.inputs[0], operations[kept[-1]].output)
