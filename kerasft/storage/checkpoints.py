"""Checkpoints: the state from which a run is resumed. Two files are written in turn, each with a digest of its content."""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

# The file names of the two checkpoints.
FILE_NAMES = ("checkpoint-0.npz", "checkpoint-1.npz")

Arrays = dict[str, list[np.ndarray]]


def save(folder: Path, arrays: Arrays, state: dict, serial: int) -> None:
    """Writes a checkpoint over the older of the two files.

    Args:
        folder: of the run.
        arrays: lists of arrays, by name.
        state: what JSON can hold.
        serial: how many checkpoints were written before. The other file keeps the checkpoint before this one.
    """
    sizes = {name: len(group) for name, group in arrays.items()}
    text = json.dumps({"serial": serial, "sizes": sizes, "notes": state})
    flat = {f"{name}/{i}": np.asarray(array) for name, group in arrays.items() for i, array in enumerate(group)}
    flat |= {"notes": np.array(text), "sha256": np.array(_compute_digest(flat, text))}
    run_folder.write(folder / FILE_NAMES[serial % 2], lambda file: np.savez(file, **flat))


def load(folder: Path) -> tuple[Arrays, dict, int, str | None] | None:
    """Returns the newest checkpoint that is intact: arrays, state, serial, and the name of the other file if it is damaged.

    Returns None where there is no file.

    Raises:
        UserError: there are files, and all of them are damaged.
    """
    existing = [name for name in FILE_NAMES if (folder / name).exists()]
    intact = {name: checkpoint for name in existing if (checkpoint := _read(folder / name))}
    damaged = [name for name in existing if name not in intact]
    if damaged and not intact:
        rule = f"{' and '.join(damaged)} in it are damaged, so the run cannot go on; --noresume starts it again"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
    if not intact:
        return None
    return *max(intact.values(), key=lambda checkpoint: checkpoint[2]), next(iter(damaged), None)


def exist(folder: Path) -> bool:
    """Whether a run folder has a checkpoint, intact or not."""
    return any((folder / name).exists() for name in FILE_NAMES)


def keep_newest(folder: Path) -> None:
    """Removes the older of two files. After the last phase the newer one is smaller: it has no optimizer."""
    if found := load(folder):
        (folder / FILE_NAMES[1 - found[2] % 2]).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Removes both files."""
    for name in FILE_NAMES:
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> tuple[Arrays, dict, int] | None:
    """Returns arrays, state and serial of a file; None where it is missing, truncated or altered."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
        text, digest = str(flat.pop("notes")), str(flat.pop("sha256"))
        if _compute_digest(flat, text) != digest:
            return None
        header = json.loads(text)
        arrays = {name: [flat[f"{name}/{i}"] for i in range(size)] for name, size in header["sizes"].items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return arrays, header["notes"], header["serial"]


def _compute_digest(flat: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(flat):
        digest.update(f"{name} {flat[name].dtype} {flat[name].shape}".encode())
        digest.update(np.ascontiguousarray(flat[name]).data)
    return digest.hexdigest()
