"""Checks before training that the disk has space for what a run writes."""

import os
from pathlib import Path

from kerasft.settings import failures
from kerasft.settings.errors import UserError

# A run folder holds so many copies of the weights, and one for each phase: two checkpoints of six each (variables, two slots
# of the optimizer, and the initial, best and last weights), and `model.keras`.
RUN_WEIGHT_COPIES = 13
# A SavedModel holds up to two copies of the weights.
EXPORT_WEIGHT_COPIES = 2
# Logs, reports, predictions and graphs take so many bytes.
OTHER_BYTES = 32e6


def check_free_space(
    weight_bytes: int, run_dir: Path, export_dir: Path, *, phases: int, cache: Path | None = None, more_copies: int = 0
) -> int:
    """Returns the bytes that a run writes into its run folder and its export folder, without its cache.

    What the run folder has is not needed again: that of a run that goes on has most of it.

    Args:
        weight_bytes: of all weights of the network.
        phases: their number.
        cache: the folder of the cache, where it is in the run folder.
        more_copies: of them that the run folder holds for a while.

    Raises:
        UserError: a disk has less free space, or one that holds both folders has.
    """
    run_bytes = (RUN_WEIGHT_COPIES + phases + more_copies) * weight_bytes + OTHER_BYTES
    export_bytes = EXPORT_WEIGHT_COPIES * weight_bytes + OTHER_BYTES
    left = max(0, run_bytes - _bytes_of(run_dir, cache))
    needs = {"--run_dir": (run_dir, left), "--export_dir": (export_dir, export_bytes)}
    if _device(run_dir) == _device(export_dir):
        needs = {"--run_dir": (run_dir, left + export_bytes)}
    for flag, (folder, needed) in needs.items():
        if failures.free_bytes(folder) < needed:
            rule = f"a run of this network writes about {failures.format_bytes(needed)}, and its disk has "
            rule += f"{failures.format_bytes(failures.free_bytes(folder))}; free some space, or name a folder on another disk"
            raise UserError(f"{flag}: {rule}. Received: '{folder}'")
    return int(run_bytes + export_bytes)


def _bytes_of(folder: Path, cache: Path | None) -> int:
    """Returns the bytes of the files of a folder, without those of the cache; 0 where there is none."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return sum(path.stat().st_size for path in files if cache is None or not path.is_relative_to(cache))


def _device(path: Path) -> int:
    """Returns the device of a path, or of its nearest parent that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.stat(path).st_dev
