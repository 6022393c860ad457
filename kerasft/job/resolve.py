"""What is settled before a picture is read: weights, image size and precision; a run that goes on takes them from its folder."""

import platform
import statistics
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from kerasft.console import console
from kerasft.data import image_headers
from kerasft.data.listing import Listing
from kerasft.networks import backbones, bundled
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache, run_folder
from kerasft.strategies import planning
from kerasft.strategies.phases import Phase
from kerasft.training import autotune

SAMPLED_HEADERS = 64  # pictures whose headers tell how large they are
MAX_ENLARGEMENT = 4  # times at the most that pictures are enlarged: more pixels hold no more to see
STRIDE = 32  # of most backbones


def resolve_settings(config: Config, listing: Listing, folder: Path) -> tuple[Network, dict]:
    """Builds the network, in the image size and precision that are settled now or were before.

    Returns:
        The network, and what was settled, for `settled.json`.

    Raises:
        UserError: a mistake in the backbone's, the head's or the phases' flags.
    """
    before = run_folder.read_json(folder / "settled.json")
    weights = before.get("weights") or bundled.resolve_weights(config)
    if weights == "bundled" != config.weights:
        console.say("weights: bundled, for embedded data (--weights=imagenet where there is a network)")
    config = replace(config, weights=weights)
    size = before.get("image_size") or config.image_size or _image_size(config, listing)
    network = networks.build(replace(config, image_size=size), len(listing.classes), listing.task)
    longest = planning.check(config, network)
    if "precision" not in before:
        chosen = _precision(config, network, longest, folder)
        before = {
            "weights": weights,
            "image_size": network.size,
            "precision": chosen.value,
            "precision_reason": chosen.reason,
        }
        if longest and config.precision == "auto":
            console.say(f"precision: {chosen.value} ({chosen.reason})")
        run_folder.write_json(folder / "settled.json", before)
    return networks.in_precision(network, before["precision"]), before


def _precision(config: Config, network: Network, longest: Phase | None, run_folder: Path) -> autotune.Choice:
    """`compute.precision`; runs that share a `--cache_dir` measure it once."""
    cache = disk_cache.of(config, run_folder)
    if config.precision != "auto" or not cache.kept or longest is None:
        return autotune.precision(config, network, longest)
    trained = longest.kind, longest.unfreeze, longest.batch_norm, config.batch_size, config.deterministic
    machine = tf.__version__, platform.node(), [device.name for device in tf.config.list_physical_devices()]
    key_parts = network.name, network.size, network.model.count_params(), trained, machine

    def measured() -> dict[str, str]:
        chosen = autotune.precision(config, network, longest)
        return {"value": chosen.value, "reason": chosen.reason}

    with disk_cache.locked(cache, "precision") as folder:
        found = feature_cache.memoize(folder, key_parts, measured)
    return autotune.Choice(str(found["value"]), str(found["reason"]))


def _image_size(config: Config, listing: Listing) -> int | None:
    """The backbone's own size, or less where the pictures are far smaller; None for a saved model."""
    own = backbones.own_size(config.backbone, config.weights)
    count = len(listing.ids)
    sides = (
        [_shorter_side(listing, i * count // SAMPLED_HEADERS) for i in range(SAMPLED_HEADERS)] if own and count else []
    )
    sides = [side for side in sides if side]
    if not sides:
        return own
    enough = -(-MAX_ENLARGEMENT * statistics.median_low(sides) // STRIDE) * STRIDE
    size = min(own, max(enough, 2 * STRIDE))
    if size < own:
        console.say(f"image size: {size}, for the pictures are about {statistics.median_low(sides)} pixels")
    return size


def _shorter_side(listing: Listing, index: int) -> int | None:
    try:
        found = image_headers.size(listing.read(index))
    except (OSError, ValueError):  # whatever is wrong with the file, the audit says it
        return None
    return min(found) if found else None
