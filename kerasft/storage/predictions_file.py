"""`predictions.npz` of a run folder: ids, labels and predictions of the test images, with their losses."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

NAME = "predictions.npz"


def read(folder: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays of the file by their names; all of them where none is named.

    Raises:
        OSError: the file is missing, or cannot be read.
        UserError: it is damaged, or lacks an array.
    """
    path = folder / NAME
    # NumPy leaves a file open if it is no archive, so it is opened here.
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in names} if names else dict(stored)
        except (EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            rule = f"{NAME} is damaged ({reason}); the command of the run with --noresume makes it again"
            raise UserError(f"{rule}. Received: '{path}'") from error


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes the file atomically."""
    run_folder.write(folder / NAME, lambda file: np.savez_compressed(file, **arrays))
