"""Whether the data are still those that a run was given. A run on other data is another run."""

from collections.abc import Mapping
from pathlib import Path

from kerasft.data.listing import Listing
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import manifest


def refuse_changes(config: Config, listing: Listing, folder: Path, digests: Mapping[str, str] | None = None) -> None:
    """Refuses data that have changed since the run began. Embedded and generated data cannot change.

    Args:
        digests: as in `manifest.describe_changes`.

    Raises:
        UserError: they have changed.
    """
    further, name = listing.unlabelled, manifest.UNLABELLED_NAME
    if further is not None and (changed := manifest.describe_changes(folder, further, name, digests)):
        raise UserError(_changed("unlabelled", folder, changed, config.unlabelled))
    if config.has_embedded_data:
        return
    if changed := manifest.describe_changes(folder, listing, digests=digests):
        raise UserError(_changed("data", folder, changed, config.data))


def _changed(flag: str, folder: Path, changed: str, received: str) -> str:
    rule = f"has changed since the run in '{folder}' began: {changed}; --noresume runs it again on the new data"
    return f"--{flag}: {rule}, another --run_dir keeps both. Received: {received!r}"
