"""Checks before training that the disk has space for what a run writes."""

import os
from pathlib import Path

from kerasft.settings import failures
from kerasft.settings.errors import UserError

# A run folder holds so many copies of the weights: two checkpoints of six each (variables, two slots of the optimizer,
# and the initial, best and last weights), one for each of up to three phases, and `model.keras`.
RUN_WEIGHT_COPIES = 16
# A SavedModel holds up to two copies of the weights.
EXPORT_WEIGHT_COPIES = 2
# Logs, reports, predictions and graphs take so many bytes.
OTHER_BYTES = 32e6


def check_free_space(weight_bytes: int, run_dir: Path, export_dir: Path, *, more_copies: int = 0) -> int:
    """Returns the bytes that a run writes into its run folder and its export folder, without its cache.

    Args:
        weight_bytes: of all weights of the network.
        more_copies: of them that the run folder holds for a while.

    Raises:
        UserError: a disk has less free space, or one that holds both folders has.
    """
    run_bytes = (RUN_WEIGHT_COPIES + more_copies) * weight_bytes + OTHER_BYTES
    export_bytes = EXPORT_WEIGHT_COPIES * weight_bytes + OTHER_BYTES
    needs = {"--run_dir": (run_dir, run_bytes), "--export_dir": (export_dir, export_bytes)}
    if _device(run_dir) == _device(export_dir):
        needs = {"--run_dir": (run_dir, run_bytes + export_bytes)}
    for flag, (folder, needed) in needs.items():
        if failures.free_bytes(folder) < needed:
            rule = f"a run of this network writes about {failures.format_bytes(needed)}, and its disk has "
            rule += f"{failures.format_bytes(failures.free_bytes(folder))}; free some space, or name a folder on another disk"
            raise UserError(f"{flag}: {rule}. Received: '{folder}'")
    return int(sum(needed for _, needed in needs.values()))


def _device(path: Path) -> int:
    """Returns the device of a path, or of its nearest parent that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.stat(path).st_dev
