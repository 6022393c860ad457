"""The state from which a run goes on: two files written in turn, each with a digest of what it holds."""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

NAMES = ("checkpoint-0.npz", "checkpoint-1.npz")

Arrays = dict[str, list[np.ndarray]]


def save(folder: Path, arrays: Arrays, notes: dict, serial: int) -> None:
    """Writes arrays and JSON notes over the older of the two files.

    Args:
        serial: how many were written before; the other file keeps the state before this one.
    """
    sizes = {name: len(group) for name, group in arrays.items()}
    text = json.dumps({"serial": serial, "sizes": sizes, "notes": notes})
    flat = {f"{name}/{i}": np.asarray(array) for name, group in arrays.items() for i, array in enumerate(group)}
    flat |= {"notes": np.array(text), "sha256": np.array(_digest(flat, text))}
    run_folder.write(folder / NAMES[serial % 2], lambda file: np.savez(file, **flat))


def load(folder: Path) -> tuple[Arrays, dict, int, str | None] | None:
    """The newest state that is whole: arrays, notes, serial, and the name of the other file if it is damaged.

    None where there is no file.

    Raises:
        UserError: there are files, and none is whole.
    """
    there = [name for name in NAMES if (folder / name).exists()]
    found = {name: state for name in there if (state := _read(folder / name))}
    damaged = [name for name in there if name not in found]
    if damaged and not found:
        rule = f"{' and '.join(damaged)} in it are damaged, so the run cannot go on; --noresume starts it again"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
    if not found:
        return None
    return *max(found.values(), key=lambda state: state[2]), next(iter(damaged), None)


def remove(folder: Path) -> None:
    """Removes both files."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> tuple[Arrays, dict, int] | None:
    """What a file holds, or None where it is missing, cut short or altered."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
        text, digest = str(flat.pop("notes")), str(flat.pop("sha256"))
        if _digest(flat, text) != digest:
            return None
        told = json.loads(text)
        arrays = {name: [flat[f"{name}/{i}"] for i in range(size)] for name, size in told["sizes"].items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return arrays, told["notes"], told["serial"]


def _digest(flat: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(flat):
        digest.update(f"{name} {flat[name].dtype} {flat[name].shape}".encode())
        digest.update(np.ascontiguousarray(flat[name]).data)
    return digest.hexdigest()
