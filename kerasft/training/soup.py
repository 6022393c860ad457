"""The greedy soup (`--average=soup`): the mean of the weights after the best epochs of a phase, and of other runs.

Each is added only if the validation loss of the mean does not rise.
"""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.networks import backbones, heads, saved_files
from kerasft.networks.network import Network
from kerasft.optimization.averages import SOUP_INGREDIENTS
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.training.weight_interpolation import Weights

FOLDER = "soup"

SAME_NETWORK = "soup(runs=) needs runs of the same backbone, image size, framing, features, head and surgeries"

# The keys of `settled.json` in which runs of one soup agree. Weights of the same shapes may belong to another function.
SAME_SETTINGS = ("backbone", "image_size", "framing", "features", "surgery")


class Ingredient(NamedTuple):
    """Weights that may become part of a soup.

    Attributes:
        name: what a message calls them.
        loss: on validation.
        read: gives them, in the order of `get_weights`; None where they cannot be read.
    """

    name: str
    loss: float
    read: Callable[[], Weights | None]


def keep_best(folder: Path, losses: list[float], weights: Weights) -> None:
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


def epoch_ingredients(folder: Path, losses: list[float]) -> list[Ingredient]:
    """The ingredients that `keep_best` has left."""

    def ingredient(epoch: int) -> Ingredient:
        return Ingredient(f"epoch {epoch}", losses[epoch - 1], lambda: _read(_path(folder, epoch)))

    return [ingredient(epoch) for epoch in ranked(losses)]


def run_ingredient(run: str, network: Network, loss_of: Callable[[Weights], float]) -> Ingredient:
    """The weights that a finished run has left; arguments and errors as `read_run`, and `loss_of` as in `greedy`."""
    weights = read_run(run, network)
    return Ingredient(run, loss_of(weights), lambda: weights)


def read_run(run: str, network: Network) -> Weights:
    """The weights that a finished run has left.

    Args:
        run: its folder.
        network: of the same layers, on features with the same statistics. It has its own weights again afterwards.

    Raises:
        UserError: the weights are missing, or are not those of such a network.
    """
    # Without the optimizer, which the file holds too.
    model = keras.Model(network.model.inputs, network.model.outputs)
    own = model.get_weights()
    try:
        saved_files.read_weights(model, _last_weights(run))
        weights = model.get_weights()
    except saved_files.REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--average: {SAME_NETWORK} ({reason}). Received: '{run}'") from error
    finally:
        model.set_weights(own)
        backbones.refresh_normalization(model)
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    places = {id(weight): place for place, weight in enumerate(model.weights)}
    for place in (places[id(weight)] for layer in normalizations for weight in layer.weights):
        if not np.allclose(weights[place], own[place], rtol=1e-3, atol=1e-6):
            reason = "the statistics that it scales pixels or features by are others"
            raise UserError(f"--average: {SAME_NETWORK} ({reason}). Received: '{run}'")
        # Graphs hold them as constants, so they stay as they are to the bit.
        weights[place] = own[place]
    return weights


def check_runs(runs: tuple[str, ...]) -> None:
    """Raises UserError where a folder is not that of a finished run."""
    for run in runs:
        if not _metrics(run).get("data_digest") or _last_weights(run) is None:
            raise UserError(f"--average: soup(runs=) must name folders of finished runs. Received: '{run}'")


def check_run(run: str, data_digest: str, settled: dict[str, Any], head: str) -> None:
    """Refuses a run whose weights may not become part of a soup.

    A run on other splits was trained on images that would judge the soup.

    Args:
        run: folder of a finished run.
        data_digest: of this run's splits.
        settled: of this run, as in `settled.json`.
        head: of this run, as `--head` names it.

    Raises:
        UserError: the splits or the networks differ.
    """
    metrics = _metrics(run)
    if metrics["data_digest"] != data_digest:
        rule = "soup(runs=) needs runs on the same images and splits: the same --data, --seed and fractions"
        raise UserError(f"--average: {rule}. Received: '{run}'")
    other = metrics.get("settled", {})
    if differ := [name for name in SAME_SETTINGS if other.get(name) != settled.get(name)]:
        raise UserError(f"--average: {SAME_NETWORK}; {', '.join(differ)} differ. Received: '{run}'")
    theirs = run_folder.read_json(Path(run) / "config.json").get("head", head)
    if heads.inference_settings(theirs) != heads.inference_settings(head):
        raise UserError(f"--average: {SAME_NETWORK}; its head is {theirs}, and here it is {head}. Received: '{run}'")


def greedy(ingredients: list[Ingredient], loss_of: Callable[[Weights], float]) -> tuple[Weights, list[str]] | None:
    """Makes the greedy soup (Wortsman et al. 2022, recipe 1).

    Args:
        ingredients: in any order.
        loss_of: the validation loss of weights.

    Returns:
        The mean of the weights, and the names of those that are in it, the best first; None where none can be
        read, or none has a finite loss.
    """
    total, members, lowest = None, [], np.inf
    for ingredient in sorted(ingredients, key=lambda one: np.nan_to_num(one.loss, nan=np.inf)):
        weights = ingredient.read()
        if weights is None:
            continue
        added = [np.asarray(weight, np.float64) for weight in weights]
        tried = added if total is None else [a + b for a, b in zip(total, added, strict=True)]
        loss = loss_of(_mean(tried, len(members) + 1))
        if loss <= lowest and np.isfinite(loss):
            total, lowest = tried, loss
            members.append(ingredient.name)
    return (_mean(total, len(members)), members) if members else None


def remove(run_dir: Path) -> None:
    """Removes the ingredients of all phases of a run."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


def _mean(total: Weights, count: int) -> Weights:
    """Sums in float64, divided by their number, as float32. The sum of one gives its float32 weights to the bit."""
    return [(one / count).astype(np.float32) for one in total]


def _metrics(run: str) -> dict[str, Any]:
    return run_folder.read_json(Path(run) / "metrics.json")


def _last_weights(run: str) -> Path | None:
    """The file of the weights after the last phase of a run. The folders of phases begin with two digits."""
    return max(Path(run).glob("phases/*/model.weights.h5"), default=None)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:04d}.npz"


def _read(path: Path) -> Weights | None:
    """The weights of a file; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in stored.files]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
