"""A finished run again: its settings, its network from `model.keras`, its splits and its predictions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft.data import sources
from kerasft.data.listing import Listing
from kerasft.data.splits import Splits
from kerasft.export.keras_model import KERAS_FILE
from kerasft.job.data_changes import refuse_changes
from kerasft.job.framed_splits import audit_and_frame
from kerasft.networks import saved_files
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.stored_config import from_stored
from kerasft.storage import predictions_file, run_folder
from kerasft.storage.resolved_settings import ResolvedSettings

SCRATCH = ".reopen"


@dataclass(frozen=True)
class Reopened:
    """A finished run.

    Attributes:
        folder: the run folder.
        config: its settings.
        metrics: as in `metrics.json`.
        listing: the data, framed as in the run.
        network: what was evaluated and served: with `--tta=flip` its model is the mean over mirror images. It has no
            names of blocks.
        splits: as in the run.
        outputs: the predictions for the test images, probabilities float [N, C] or values [N, D].
        thresholds: float32 [C] for multi-label; else None.
    """

    folder: Path
    config: Config
    metrics: dict[str, Any]
    listing: Listing
    network: Network
    splits: Splits
    outputs: np.ndarray
    thresholds: np.ndarray | None


def reopen(run: str, allow_imports: tuple[str, ...] = (), **changes: Any) -> Reopened:
    """Reads a finished run. The images are audited again, as their splits depend on all of them.

    Args:
        run: the run folder, as `--model` names it.
        allow_imports: of the command line. What the run was allowed to import does not count: its folder may be a stranger's.
        changes: other settings that differ from those of the run.

    Raises:
        UserError: no finished run, a damaged file, or the images have changed.
    """
    folder, needed = Path(run), (KERAS_FILE, predictions_file.NAME)
    metrics, stored = read_files(run, keys=("task", "classes", "image_size", "framing", "export"), needed=needed)
    # Images without labels took part in training alone.
    config = from_stored(stored, allow_imports=allow_imports, unlabelled="", **changes)
    listing = replace(sources.load(config), framing=metrics["framing"])
    refuse_changes(config, listing, folder)
    saved_files.register(allow_imports)
    network = Network(_read(folder), metrics["backbone"], metrics["task"], metrics["image_size"], True, "", (), ())
    with run_folder.scratch(folder, SCRATCH) as place:
        size = metrics.get("settled", {}).get("audit_size")
        resolved = ResolvedSettings(None, network.size, "float32", framing=metrics["framing"], audit_size=size)
        splits = audit_and_frame(config, listing, network, resolved, place)
    arrays = predictions_file.read(folder)
    outputs, thresholds = (
        arrays["values" if network.task == "regression" else "probabilities"],
        arrays.get("thresholds"),
    )
    if arrays["ids"].tolist() != splits.test.ids.tolist():
        raise UserError(f"--data: the test images are not those of the run. Received: {config.data!r}")
    refuse_other_splits(config, splits.digest, folder)
    return Reopened(folder, config, metrics, listing, network, splits, outputs, thresholds)


def read_files(
    run: str, *, keys: tuple[str, ...], needed: tuple[str, ...] = (KERAS_FILE,)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of `metrics.json` and `config.json` of a finished run.

    Args:
        run: the run folder, as `--model` names it.
        keys: that `metrics.json` must have.
        needed: names of files that must be there too.

    Raises:
        UserError: no finished run.
    """
    folder = Path(run)
    metrics = run_folder.read_json(folder / "metrics.json", *keys)
    stored = run_folder.read_json(folder / "config.json", "data", "backbone")
    if not run or not metrics or not stored or not all((folder / name).is_file() for name in needed):
        raise UserError(f"--model: must be the folder of a finished run, with {KERAS_FILE} in it. Received: {run!r}")
    return metrics, stored


def refuse_other_splits(config: Config, digest: str, folder: Path) -> None:
    """Raises UserError where images fall into other splits than in a finished run: it was trained on some of val or test.

    The digest of a run with `--unlabelled` is of those images too. It is not compared, as they are not read again.

    Args:
        config: of what goes on from the run, without `--unlabelled`.
        digest: of its splits.
        folder: of the finished run.
    """
    # Runs of early versions have no digest.
    known = run_folder.read_json(folder / "metrics.json").get("data_digest", digest)
    if known != digest and not run_folder.read_json(folder / "config.json").get("unlabelled"):
        rule = f"its images fall into other splits than in the run '{folder}', which was trained on some of val or test"
        raise UserError(f"--data: {rule}; the run must be made again (--noresume). Received: {config.data!r}")


def _read(folder: Path) -> keras.Model:
    path = folder / KERAS_FILE
    try:
        return saved_files.read(path)
    except saved_files.REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--model: Keras cannot load {KERAS_FILE} ({reason}). Received: '{path}'") from error
