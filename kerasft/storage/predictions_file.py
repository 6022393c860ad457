"""`predictions.npz` of a run folder: ids, labels and predictions of the test images, with their losses."""

from pathlib import Path

import numpy as np

from kerasft.storage import run_folder

NAME = "predictions.npz"


def read(folder: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays of the file by their names; all of them where none is named.

    Raises:
        OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error: the file is missing or damaged, or lacks an array.
    """
    # NumPy leaves a file open if it is no archive, so it is opened here.
    with (folder / NAME).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in names} if names else dict(stored)


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes the file atomically."""
    run_folder.write(folder / NAME, lambda file: np.savez_compressed(file, **arrays))
