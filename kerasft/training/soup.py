"""The greedy soup of a phase: the mean of the weights after its best epochs, as far as validation bears it."""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasft.optimization.averages import SOUP_INGREDIENTS
from kerasft.storage import run_folder
from kerasft.training.weight_interpolation import Weights

FOLDER = "soup"


def keep(folder: Path, losses: list[float], weights: Weights) -> None:
    """Writes the weights after an epoch, if they are among the best, and removes those that no longer are.

    An epoch that is done again after a kill writes the same file again.

    Args:
        folder: of the phase's ingredients.
        losses: on validation, one an epoch; the last is that of the weights.
        weights: after the last epoch.
    """
    best = ranked(losses)
    if len(losses) in best:
        run_folder.write(_path(folder, len(losses)), lambda file: np.savez(file, *weights))
    for epoch in range(1, len(losses)):
        if epoch not in best:
            _path(folder, epoch).unlink(missing_ok=True)


def ranked(losses: list[float]) -> list[int]:
    """The epochs, counted from 1, whose weights may become part of the soup, the best first."""
    finite = [index for index, loss in enumerate(losses) if np.isfinite(loss)]
    return [index + 1 for index in sorted(finite, key=lambda index: losses[index])[:SOUP_INGREDIENTS]]


def greedy(folder: Path, losses: list[float], loss_of: Callable[[Weights], float]) -> tuple[Weights, list[int]] | None:
    """Makes the greedy soup (Wortsman et al. 2022, recipe 1).

    Args:
        folder, losses: as in `keep`.
        loss_of: the validation loss of weights.

    Returns:
        The mean of the weights, and the epochs that are in it, the best first; None where no epoch's can be read.
    """
    total, members, lowest = None, [], np.inf
    for epoch in ranked(losses):
        weights = _read(_path(folder, epoch))
        if weights is None:
            continue
        tried = weights if total is None else [a + b for a, b in zip(total, weights)]
        loss = loss_of(_mean(tried, len(members) + 1))
        if total is None or loss <= lowest:
            total, lowest = tried, loss
            members.append(epoch)
    return (_mean(total, len(members)), members) if members else None


def remove(run_dir: Path) -> None:
    """Removes the ingredients of all phases of a run."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


def _mean(total: Weights, count: int) -> Weights:
    """The mean of sums in float64, float32; of a single one to the bit."""
    return [(one / count).astype(np.float32) for one in total]


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:04d}.npz"


def _read(path: Path) -> Weights | None:
    """The weights of a file, float64; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name].astype(np.float64) for name in stored.files]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
