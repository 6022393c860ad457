"""`baseline.npz` of a run folder: the answers of a served model and of the new one for the test images."""

from pathlib import Path

import numpy as np

from kerasft.evaluation.gate import Both, Side
from kerasft.storage import run_folder

NAME = "baseline.npz"


def write(folder: Path, both: Both) -> None:
    """Writes `baseline.npz` into a run folder."""
    arrays = {"ids": both.ids, "labels": both.labels} | ({} if both.groups is None else {"groups": both.groups})
    for name in ("before", "after"):
        arrays |= {f"{name}_{key}": part for key, part in getattr(both, name)._asdict().items() if part is not None}
    run_folder.write(folder / NAME, lambda file: np.savez_compressed(file, **arrays))


def read(folder: Path) -> Both:
    """Reads `baseline.npz` of a run folder."""
    with np.load(folder / NAME, allow_pickle=False) as stored:
        sides = [Side(*(stored.get(f"{name}_{key}") for key in Side._fields)) for name in ("before", "after")]
        return Both(stored["ids"], stored["labels"], *sides, stored.get("groups"))
