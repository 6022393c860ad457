"""Applies what `--surgery` names."""

from collections.abc import Callable
from functools import partial

from kerasft.networks import surgery
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.spec import Spec


def apply_surgeries(
    config: Config, network: Network, on_applied: Callable[[Spec, Network, Network], object] = lambda *_: None
) -> Network:
    """The network after the surgeries of a Config, one after the other.

    Args:
        network: new, with a head on one depth.
        on_applied: called after each of them, with the networks before and after.

    Raises:
        UserError: an unknown surgery or argument, or one that the network does not bear.
    """
    for spec in config.specs("surgery"):
        named = {function.__name__: partial(function, network) for function in surgery.NAMED}
        after = specs.build(spec, "--surgery", named, kind=Network)
        on_applied(spec, network, after)
        network = after
    return network
