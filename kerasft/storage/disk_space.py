"""Whether the disk has room for what a run writes, asked before it trains."""

import os
from pathlib import Path

from kerasft.settings import failures
from kerasft.settings.errors import UserError

# In sizes of all weights. Two checkpoints of six each (variables, two of the optimizer's, first, best and last
# weights), one for each of up to three phases, and one for `model.keras`.
RUN = 16
# A SavedModel holds the weights up to twice.
EXPORT = 2
# Bytes for logs, reports, predictions and graphs.
REST = 32e6


def check(weights: int, run_dir: Path, export_dir: Path) -> int:
    """Bytes that a run needs in its run folder and its export folder, besides what it caches.

    Args:
        weights: bytes of the network's.

    Raises:
        UserError: one of the disks has less, or the two folders share one that has.
    """
    needs = {"--run_dir": (run_dir, RUN * weights + REST), "--export_dir": (export_dir, EXPORT * weights + REST)}
    if _device(run_dir) == _device(export_dir):
        needs = {"--run_dir": (run_dir, (RUN + EXPORT) * weights + 2 * REST)}
    for flag, (folder, wanted) in needs.items():
        if failures.free(folder) < wanted:
            rule = f"a run of this network writes about {failures.size(wanted)}, and its disk has "
            rule += f"{failures.size(failures.free(folder))}; free some space, or name a folder on another disk"
            raise UserError(f"{flag}: {rule}. Received: '{folder}'")
    return int(sum(wanted for _, wanted in needs.values()))


def _device(path: Path) -> int:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.stat(path).st_dev
