"""Resolves what must be known before the images are decoded: weights, image size and precision."""

import platform
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import tensorflow as tf

from kerasft.console import console
from kerasft.data import image_headers
from kerasft.data.listing import Listing
from kerasft.job import file_changes
from kerasft.networks import backbones, bundled, candidates, surgery
from kerasft.networks import network as networks
from kerasft.networks.apply_surgeries import apply_surgeries
from kerasft.networks.multiplications import multiplications
from kerasft.networks.network import Network
from kerasft.optimization import averages
from kerasft.settings import distillation
from kerasft.settings.config import Config
from kerasft.settings.spec import Spec
from kerasft.storage import disk_cache, feature_cache, resolved_settings
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import plan_checks, planning
from kerasft.strategies.phase import Phase
from kerasft.training import autotune, soup
from kerasft.training.backbone_choice import BackboneChoice

# The size of the images is estimated from the headers of so many.
SAMPLED_HEADERS = 64

# Where `crop` keeps at least this fraction of the area of the sampled images, they count as square.
MIN_KEPT_AREA = 0.95

# Small images are enlarged at most so many times. More pixels would hold no more information.
MAX_ENLARGEMENT = 4

# Most backbones halve their input five times.
BACKBONE_STRIDE = 32


def resolve_settings(
    config: Config, listing: Listing, folder: Path, choice: BackboneChoice | None = None, framing: str | None = None
) -> tuple[Network, ResolvedSettings]:
    """Resolves weights, image size and precision, and builds the network. A resumed run takes them from its folder.

    The framing stays open (None) where a look at images has to choose it.

    Args:
        config: its `--backbone` names one network.
        listing: the examples.
        folder: the run folder.
        choice: why it is this network, where it was chosen; it is written to `settled.json`.
        framing: what `--framing=auto` is to be, where another run has chosen it.

    Raises:
        UserError: a flag of the backbone, the head or the phases is wrong.
    """
    resolved = resolved_settings.read(folder)
    config = candidates.one(config)
    weights = (resolved and resolved.weights) or bundled.resolve_weights(config)
    if weights == "bundled" != config.weights:
        console.say("weights: bundled, for embedded data (--weights=imagenet where there is a network)")
    config = replace(config, weights=weights)
    is_sampled = resolved is None and (config.framing == "auto" or not config.image_size)
    sizes = sample_sizes(listing) if is_sampled else []
    size = resolved.image_size if resolved else config.image_size or image_size(config, sizes, say=console.say)
    operations = []
    sized = replace(config, image_size=size)
    network, longest = build(sized, listing, lambda *given: operations.append(_operation(*given)))
    for note in network.notes:
        console.say(f"backbone: {note}")
    if resolved is None:
        chosen = _precision(config, network, longest, len(listing.ids), folder)
        resolved = ResolvedSettings(weights, network.size, chosen.value, chosen.reason, surgery=operations)
        resolved.backbone = config.backbone
        resolved.files = file_changes.digests(config, network)
        if choice:
            resolved.backbone_reason, resolved.backbone_table = choice.reason, choice.table
        resolved.framing, resolved.framing_reason = _framing(config, sizes, framing)
        if longest and config.precision == "auto":
            console.say(f"precision: {chosen.value} ({chosen.reason})")
        resolved.write(folder)
    resolved.weights = weights
    return surgery.precision(network, resolved.precision), resolved


def build(
    config: Config, listing: Listing, on_applied: Callable[[Spec, Network, Network], object] = lambda *_: None
) -> tuple[Network, Phase | None]:
    """Builds a network with its surgeries and with what its phases put into it, and checks the phases.

    Args:
        config: its `--backbone` names one network.
        listing: the examples.
        on_applied: as in `apply_surgeries`.

    Returns:
        The network, and the longest phase that trains the backbone; None where none does.

    Raises:
        UserError: a flag of the backbone, the head or the phases is wrong.
    """
    distillation.requested(config, listing.task, listing.classes)
    soup.check_runs(averages.runs_of(averages.build(config.specs("average"))))
    network = apply_surgeries(config, networks.build(config, len(listing.classes), listing.task), on_applied)
    network = planning.prepare(config, network)
    return network, plan_checks.check(config, network, max(1, listing.max_examples))


def _operation(spec: Spec, before: Network, after: Network) -> dict:
    """What a surgery did, for `settled.json`; says it in one line."""
    parameters = [network.model.count_params() for network in (before, after)]
    macs = [multiplications(network.model) for network in (before, after)]
    console.say(
        f"surgery: {spec}: {parameters[0]:,} -> {parameters[1]:,} parameters, {macs[0]:,} -> {macs[1]:,} multiplications"
    )
    return {"surgery": str(spec), "parameters": parameters, "macs": macs}


def _precision(
    config: Config, network: Network, longest: Phase | None, images: int, run_folder: Path
) -> autotune.MeasuredChoice:
    """Chooses the precision as `autotune.precision` does. Runs that share a `--cache_dir` measure it once."""
    cache = disk_cache.from_config(config, run_folder)
    if config.precision != "auto" or not cache.is_shared or longest is None:
        return autotune.precision(config, network, longest, images)
    trained = longest.strategy, dict(longest.arguments), longest.batch_norm, longest.epochs, longest.image_size
    trained += config.batch_size, config.deterministic
    machine = tf.__version__, platform.node(), [device.name for device in tf.config.list_physical_devices()]
    key_parts = network.name, config.surgery, network.size, images, network.model.count_params(), trained, machine

    def measure() -> dict[str, str]:
        chosen = autotune.precision(config, network, longest, images)
        return {"value": chosen.value, "reason": chosen.reason}

    with disk_cache.locked(cache, "precision") as folder:
        found = feature_cache.memoize(folder, key_parts, measure)
    return autotune.MeasuredChoice(str(found["value"]), str(found["reason"]))


def _framing(config: Config, sizes: list[tuple[int, int]], chosen: str | None) -> tuple[str | None, str]:
    """The framing and its reason; None where images are not square under `auto`, and no other run has chosen."""
    if config.framing != "auto":
        return config.framing, ""
    if chosen:
        return chosen, "the run that this one goes on from has chosen it"
    kept = statistics.fmean(min(size) / max(size) for size in sizes) if sizes else 1.0
    if kept < MIN_KEPT_AREA:
        return None, ""
    return "crop", f"it keeps {kept:.1%} of the area of {len(sizes)} images" if sizes else "no image tells its size"


def image_size(config: Config, sizes: list[tuple[int, int]], say: Callable[[str], None] = lambda _: None) -> int | None:
    """Returns the backbone's own image size, or a smaller one if the images are much smaller; None for a saved model.

    Args:
        config: its `--backbone` names one network.
        sizes: of `sample_sizes`.
        say: is told of a smaller one.
    """
    own = backbones.native_size(config.backbone, config.weights)
    if not own or not sizes:
        return own
    shorter = statistics.median_low(min(size) for size in sizes)
    enough = -(-MAX_ENLARGEMENT * shorter // BACKBONE_STRIDE) * BACKBONE_STRIDE
    size = min(own, max(enough, 2 * BACKBONE_STRIDE))
    if size < own:
        say(f"image size: {size}, because the images are about {shorter} pixels")
    return size


def sample_sizes(listing: Listing) -> list[tuple[int, int]]:
    """Widths and heights of images at equal distances in the listing, without those whose header cannot be read."""
    count = len(listing.ids)
    rows = [i * count // SAMPLED_HEADERS for i in range(SAMPLED_HEADERS)] if count else []
    return [size for size in (_read_size(listing, row) for row in rows) if size and min(size)]


def _read_size(listing: Listing, index: int) -> tuple[int, int] | None:
    try:
        return image_headers.read_size(listing.read(index))
    # The audit will report what is wrong with the file.
    except (OSError, ValueError):
        return None
