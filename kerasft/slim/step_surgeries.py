"""The candidates of a step of slimming: the mildest pruning, truncation and image size that make a network small enough.

Nothing is trained here.
"""

from typing import NamedTuple

from kerasft.networks import blocks, depths, surgery
from kerasft.networks.multiplications import multiplications
from kerasft.networks.network import Network
from kerasft.slim import resizing
from kerasft.slim.target import Sizes, Target

# Fractions of channels are tried in hundredths.
HUNDREDTHS = range(1, 100)


class Candidate(NamedTuple):
    """A surgery, or a size of images, that makes a network small enough.

    Attributes:
        change: what `--surgery` takes, such as `prune(0.02)`; or `image_size(160)`, which stands for `--image_size=160`; or both,
            as `image_size(160) | prune(0.02)`.
        sizes: of the network after it, with a head on one depth.
        depths: number that a head on the network after it may see; None for as many as before.
    """

    change: str
    sizes: Sizes
    depths: int | None = None


def sizes_of(network: Network) -> Sizes:
    """What a network costs, its head included."""
    return Sizes(multiplications(network.model), network.model.count_params())


def find(network: Network, target: Target, limit: float) -> list[Candidate]:
    """The candidates of a step: pruning, truncation, smaller images; empty where nothing makes the network small enough.

    Args:
        network: new, with a head on one depth.
        limit: the most multiplications, or parameters, that may be left.
    """
    # Smaller images save no parameters.
    ways = (prune, truncate, resize) if target.measure == "flops" else (prune, truncate)
    found, whole = [one for way in ways if (one := way(network, target, limit))], len(depths.find_depths(network))
    return [one._replace(depths=whole if one.depths is None else one.depths) for one in found]


def prune(network: Network, target: Target, limit: float) -> Candidate | None:
    """The smallest fraction of channels whose removal leaves at most `limit`; None where there is none.

    More channels always leave less, so the fraction is found by bisection. Too small a fraction removes no channel at all.
    """
    found, low, high = None, HUNDREDTHS.start, HUNDREDTHS.stop
    while low < high:
        middle = (low + high) // 2
        one = pruned(network, target, middle / 100)
        if one and one.sizes.of(target) <= limit:
            found, high = one, middle
        else:
            low = middle + 1
    return found


def pruned(network: Network, target: Target, fraction: float) -> Candidate | None:
    """The network without a fraction of its channels, None where that is none. For a target of multiplications the channels that save
    most of them go first.
    """
    per = "flops" if target.measure == "flops" else "channels"
    try:
        sizes = sizes_of(surgery.prune(network, fraction, per))
    except ValueError:
        return None
    return Candidate(f"prune({fraction:g}, per={per!r})" if per != "channels" else f"prune({fraction:g})", sizes)


def truncate(network: Network, target: Target, limit: float) -> Candidate | None:
    """The most blocks that leave at most `limit`; None where there are none."""
    count = len(blocks.ends(network))
    for kept in range(count - 1, 0, -1):
        # Rounded up, this is `kept` blocks.
        keep = round((kept - 0.5) / count, 4)
        try:
            made = surgery.truncate(network, keep)
        # The network cannot be cut there.
        except ValueError:
            continue
        if (sizes := sizes_of(made)).of(target) <= limit:
            return Candidate(f"truncate({keep:g})", sizes, len(depths.find_depths(made)))
    return None


def resize(network: Network, target: Target, limit: float) -> Candidate | None:
    """Smaller images that leave at most `limit`; None where there are none, or the layers fit one size only.

    It is the largest size that is small enough. The next larger one, with as few channels removed as needed, is taken instead
    where it is nearer to the limit: sizes are far apart, and a step that removes more than it is asked for costs more.
    """
    # The smallest size so far that leaves too much, and what it leaves.
    larger, too_much = None, 0
    for size in resizing.smaller_sizes(network.size):
        found = resizing.resized(network, size)
        if found is None:
            return None
        sizes = sizes_of(found)
        left = sizes.of(target)
        if left > limit:
            larger, too_much = found, left
            continue
        fewer = prune(larger, target, limit) if larger and too_much - limit < limit - left else None
        # Whole channels go, so pruning may end lower than the smaller size.
        if fewer and fewer.sizes.of(target) > left:
            return Candidate(f"{resizing.NAME}({larger.size}){resizing.SEPARATOR}{fewer.change}", fewer.sizes)
        return Candidate(f"{resizing.NAME}({size})", sizes)
    return None
