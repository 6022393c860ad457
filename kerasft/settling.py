"""What is settled before a picture is read: weights, image size and precision; a run that goes on takes them from its folder."""

import io
import statistics
from dataclasses import replace
from pathlib import Path

from kerasft import backbones, bundled, planning, precision, runs, screen
from kerasft import model as models
from kerasft.config import Config
from kerasft.data.listing import Listing
from kerasft.model import Network

LOOKS = 64  # pictures whose headers tell how large they are
ENLARGED = 4  # times at the most that pictures are enlarged: more pixels hold no more to see
STRIDE = 32  # of most backbones


def settle(config: Config, listing: Listing, folder: Path) -> tuple[Network, dict]:
    """Builds the network, in the image size and precision that are settled now or were before.

    Returns:
        The network, and what was settled, for `settled.json`.

    Raises:
        UserError: a mistake in the backbone's, the head's or the phases' flags.
    """
    before = runs.read_json(folder / "settled.json")
    weights = before.get("weights") or bundled.settled_weights(config)
    if weights == "bundled" != config.weights:
        screen.say("weights: bundled, for embedded data (--weights=imagenet where there is a network)")
    config = replace(config, weights=weights)
    size = before.get("image_size") or config.image_size or _image_size(config, listing)
    network = models.build(replace(config, image_size=size), len(listing.classes), listing.task)
    longest = planning.check(config, network)
    if "precision" not in before:
        chosen = precision.choose(config, network, longest)
        before = {
            "weights": weights,
            "image_size": network.size,
            "precision": chosen.policy,
            "precision_reason": chosen.reason,
        }
        if longest and chosen.seconds:
            screen.say(f"precision: {chosen.policy} ({chosen.reason})")
        runs.write_json(folder / "settled.json", before)
    return models.in_precision(network, before["precision"]), before


def _image_size(config: Config, listing: Listing) -> int | None:
    """The backbone's own size, or less where the pictures are far smaller; None for a saved model."""
    own = backbones.own_size(config.backbone, config.weights)
    count = len(listing.ids)
    sides = [_shorter_side(listing, i * count // LOOKS) for i in range(LOOKS)] if own and count else []
    sides = [side for side in sides if side]
    if not sides:
        return own
    enough = -(-ENLARGED * statistics.median_low(sides) // STRIDE) * STRIDE
    size = min(own, max(enough, 2 * STRIDE))
    if size < own:
        screen.say(f"image size: {size}, for the pictures are about {statistics.median_low(sides)} pixels")
    return size


def _shorter_side(listing: Listing, index: int) -> int | None:
    from PIL import Image

    try:
        return min(Image.open(io.BytesIO(listing.read(index))).size)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, the audit says it
        return None
