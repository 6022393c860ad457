"""`delta.npz`: what a run changed of a network's weights, from which the whole is made again from the weights before."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

FILE_NAME = "delta.npz"

# A delta of more than this fraction of the weights' bytes is not worth a file.
MAX_FRACTION = 0.25

# An update of low rank may differ by this from what is stored of it, relative to the largest weight or change.
TOLERANCE = 1e-5

# Factors save at least so many numbers. The head's kernel is of lower rank by one, but wants to be equal to the bit.
MIN_SAVED = 4096

Weights = list[np.ndarray]


def write(folder: Path, before: list[np.ndarray | None], after: Weights) -> float | None:
    """Writes `delta.npz` into a folder, where it is much smaller than the weights.

    Weights that are equal to the bit are left out. The change of a kernel is stored as two factors, where it is of low
    rank to `TOLERANCE` (LoRA). All others are stored whole.

    Args:
        before, after: of one network, in the order of `get_weights`; None before where a weight is stored in any case.

    Returns:
        The bytes that are stored as a fraction of all; None where no file was written.
    """
    arrays = {}
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is None or old.tobytes() != new.tobytes():
            arrays |= _change(index, old, new)
    fraction = sum(array.nbytes for array in arrays.values()) / max(sum(array.nbytes for array in after), 1)
    if fraction > MAX_FRACTION:
        return None
    arrays["base"] = np.array(_digest(before, arrays))
    run_folder.write(folder / FILE_NAME, lambda file: np.savez(file, **arrays))
    return fraction


def apply(path: Path, before: Weights) -> Weights:
    """The weights that `write` was given as `after`; those of low-rank updates to `TOLERANCE`.

    Raises:
        UserError: the file is missing or damaged, or `before` are not the weights that it was made from.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        base = str(arrays.pop("base"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{FILE_NAME}: cannot be read. Received: '{path}'") from error
    if base != _digest(before, arrays):
        raise UserError(f"{FILE_NAME}: was made from other weights than these. Received: '{path}'")
    after = list(before)
    for name, array in arrays.items():
        kind, place = name.split("/")
        if kind == "whole":
            after[int(place)] = array
        elif kind == "left":
            old = before[int(place)]
            update = (array @ arrays[f"right/{place}"]).reshape(old.shape)
            after[int(place)] = (old + update).astype(old.dtype)
    return after


def _change(index: int, old: np.ndarray | None, new: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that store the change of one weight."""
    whole = {f"whole/{index}": new}
    if old is None or new.ndim < 2:
        return whole
    change = (new.astype(np.float64) - old).reshape(-1, new.shape[-1])
    u, s, v = np.linalg.svd(change, full_matrices=False)
    # The rest of the singular values bounds what is lost of any value.
    rank = int((s > TOLERANCE * max(np.abs(change).max(), np.abs(old).max())).sum())
    if change.size - rank * sum(change.shape) < MIN_SAVED:
        return whole
    factors = {f"left/{index}": u[:, :rank] * s[:rank], f"right/{index}": v[:rank]}
    return {name: array.astype(np.float32) for name, array in factors.items()}


def _digest(before: list[np.ndarray | None], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the weights that the delta does not store whole."""
    digest = hashlib.sha256()
    for index, array in enumerate(before):
        if f"whole/{index}" not in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
