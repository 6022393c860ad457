"""The splits of a run under its framing, which `--framing=auto` chooses on training images where they are not square.

Only an audit tells which images are for training. So under `auto` it frames by `crop`, and the images are decoded again
where another framing is chosen. The splits stay the same, and no image of val or test takes part in the choice.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.console import console, stderr_filter
from kerasft.data import audit
from kerasft.data.listing import SPLITS, Listing
from kerasft.data.splits import Split, Splits
from kerasft.job.audited_splits import as_audited, audit_and_split
from kerasft.job.backbone import Audited
from kerasft.networks.network import Network
from kerasft.probes import framing_choice
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, image_cache
from kerasft.storage.resolved_settings import ResolvedSettings


def audit_and_frame(
    config: Config,
    listing: Listing,
    network: Network,
    resolved: ResolvedSettings,
    folder: Path,
    audited: Audited | None = None,
) -> Splits:
    """Audits the images and frames them. A framing that is open is chosen here, and written to `settled.json`.

    Args:
        network: as it was built, before any training.
        resolved: its framing is set.
        folder: the run folder.
        audited: the splits, where an audit made them already; they are taken out. Images of another size are decoded again,
            and that size is noted for a run that goes on.

    Raises:
        UserError: as `audit_and_split`, or images have changed since the audit.
    """
    listing = as_audited(config, listing)
    if audited is None:
        size = resolved.audit_size or network.size
        data = audit_and_split(config, listing, size, folder)
    else:
        data, size = audited.take(), audited.size
    if size != network.size:
        if resolved.audit_size != size:
            resolved.audit_size = size
            resolved.write(folder)
        # No name may hold the stored images while others take their place.
        data = _without_images(data, listing.framing)
        data = _decode_again(data, config, listing, network.size, folder)
    if resolved.framing is None:
        choice = framing_choice.choose(config, network, data, disk_cache.from_config(config, folder))
        framing_choice.say(choice)
        resolved.framing, resolved.framing_reason, resolved.framing_table = choice
        resolved.write(folder)
    if resolved.framing == listing.framing:
        return data
    data = _without_images(data, resolved.framing)
    return _decode_again(data, config, replace(listing, framing=resolved.framing), network.size, folder)


def _without_images(data: Splits, framing: str) -> Splits:
    """The same splits under a framing, with no image stored."""
    names = (*SPLITS, *(["unlabelled"] if data.unlabelled is not None else []))
    return _map(data, names, lambda split: replace(split, images=None, framing=framing))


def _decode_again(data: Splits, config: Config, listing: Listing, size: int, folder: Path) -> Splits:
    """The same splits with images of another size or framing.

    Args:
        data: without images.
        listing: with the framing that is wanted.
        size: side of the images in pixels.
    """
    data = _decode(data, SPLITS, config, listing, size, folder)
    if data.unlabelled is None:
        return data
    further = replace(listing.unlabelled, framing=listing.framing)
    return _decode(data, ("unlabelled",), config, further, size, folder)


def _decode(data: Splits, names: Sequence[str], config: Config, listing: Listing, size: int, folder: Path) -> Splits:
    """The same splits with the images of those of these names stored, where there is space; all are of one listing."""
    with image_cache.open_pixel_store(listing, size, disk_cache.from_config(config, folder)) as pixel_store:
        if pixel_store is None:
            return data
        with console.progress(listing.framing, len(listing.ids)) as advance, stderr_filter.without_notices():
            decoded, images = audit.audit(listing, size, advance, pixel_store, inspected=False)
    return _map(data, names, lambda split: _with_images(split, decoded, images))


def _map(data: Splits, names: Sequence[str], change: Callable[[Split], Split]) -> Splits:
    return replace(data, **{name: change(getattr(data, name)) for name in names})


def _with_images(split: Split, decoded: Listing, images: Callable[[np.ndarray], np.ndarray]) -> Split:
    """Returns a split with images that were decoded anew, by index of their Listing."""
    places = {name: index for index, name in enumerate(decoded.ids.tolist())}
    rows = np.array([places.get(name, -1) for name in split.ids.tolist()])
    digests = "".join(decoded.digests[rows])
    if rows.min() < 0 or hashlib.sha256(digests.encode()).hexdigest() != split.digest:
        raise UserError(
            f"--data: images have changed since the audit; the same command starts again. Received: {decoded.name!r}"
        )
    return replace(split, images=lambda indices: images(rows[indices]))
