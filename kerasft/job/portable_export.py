"""The portable artefacts of a run (`--export`): written, proven and published beside its SavedModel."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.console import console
from kerasft.data.splits import Splits
from kerasft.evaluation.score_names import TITLES
from kerasft.evaluation.scoring import Scorer
from kerasft.export import model_folders
from kerasft.export.artefact import Answer
from kerasft.export.portable import publish
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.strategies import planning

# Why nothing is written for a model that is not published.
REFUSED = "refused by --gate"


def check_folders(config: Config, exports: Path) -> None:
    """Refuses folders that cannot be written before training, and not after it.

    Args:
        exports: the folder in `--export_dir`.

    Raises:
        UserError: the portable artefacts would be in the folder of the SavedModels.
        OSError: a folder cannot be created or written.
    """
    run_folder.check_can_create(exports)
    if publish.parse_formats(config.specs("export")):
        _refuse_mixing(config, exports)
        try:
            run_folder.check_can_create(model_folders.portable_folder(exports))
        except OSError as error:
            error.add_note("the artefacts of --export are written there, by --export_dir")
            raise


def _refuse_mixing(config: Config, exports: Path) -> None:
    """Raises UserError where SavedModels would be in the `exports/NAME` of those of `saved_models/NAME`."""
    if exports.parent.name == model_folders.EXPORTS:
        rule = f"must not be named {model_folders.EXPORTS}, as the folder that the other formats of --export are in"
        raise UserError(f"--export_dir: {rule}. Received: {config.export_dir!r}")


def export(
    config: Config,
    network: Network,
    answer: Answer,
    splits: Splits,
    scorer: Scorer,
    expected: np.ndarray,
    saved_model: Path,
    run: Path,
    interval: Callable[[np.ndarray, float], list[float] | None] | None = None,
) -> dict[str, dict]:
    """Publishes the portable artefacts that `--export` names, and says what became of each.

    Args:
        network: the trained network, in float32.
        scorer: with the scale of the training targets.
        expected: the network's answers to the test split, float [N, C].
        saved_model: the version folder of the SavedModel. The artefacts get the same version.
        run: the run folder.
        interval: as in `publish.ProofInputs`.

    Returns:
        The rows of `publish.publish`, by the name of the artefact.
    """
    chosen = publish.parse_formats(config.specs("export"))
    if not chosen:
        return {}
    folder = _exports(config, saved_model)
    inputs = publish.ProofInputs(
        network.task,
        splits.test,
        replace(scorer, labels=splits.test.labels, weights=None),
        expected,
        network.size,
        config.max_drop,
        _retrain_command(config, run),
        interval,
    )
    rows = publish.publish(chosen, network, answer, splits, inputs, folder)
    for row in rows:
        _say(row, scorer.key)
    return {row["artefact"]: row for row in rows}


def _retrain_command(config: Config, run: Path) -> str:
    """The command that trains the network of a run for 8 bits; empty where the run has done so."""
    if planning.trains_for_eight_bits(config):
        return ""
    line = [f"--flagfile={run / 'run.flags'}", f"--phases={config.phases} | quantised"]
    line += [f"--export={config.export}", f"--run_dir={run}-quantised"]
    return shlex.join(["kerasft", "train", *line])


def withheld(config: Config) -> dict[str, dict]:
    """The rows of `export` for a run whose model `--gate` refuses: nothing is written."""
    names = [one.name for one in publish.parse_formats(config.specs("export"))]
    return {name: {"artefact": name, "published": False, "reason": REFUSED} for name in names}


def released(artefacts: dict[str, dict], command: str) -> dict[str, dict]:
    """`artefacts` of `metrics.json` once the model is published after all: the command writes those that were withheld."""
    reason = f"this command writes it: {command}"
    return {name: row | {"reason": reason} if row.get("reason") == REFUSED else row for name, row in artefacts.items()}


def updated(artefacts: dict[str, dict], rows: dict[str, dict]) -> dict[str, dict]:
    """`artefacts` of `metrics.json` after a further `export`, which gave these rows.

    What is published elsewhere (`--export_dir`) stays there, so its row stays if the new one is refused.
    """
    kept = {
        name: row
        for name, row in artefacts.items()
        if row.get("published") and name in rows and not rows[name]["published"] and rows[name]["path"] != row["path"]
    }
    return artefacts | rows | kept


def export_folders(config: Config, metrics: dict) -> list[Path]:
    """The version folder of a run's SavedModel, and that of its portable artefacts, where there are any of this run.

    Args:
        metrics: the `metrics.json` of the run.
    """
    saved_model = Path(metrics["export"]["path"])
    found = (saved_model, _exports(config, saved_model))
    return [folder for folder in found if folder.is_dir() and not model_folders.of_other_runs(folder, metrics)]


def _exports(config: Config, saved_model: Path) -> Path:
    """The version folder of the portable artefacts of a SavedModel."""
    version = _version(config, saved_model)
    return model_folders.portable_folder(version.parent) / version.name


def _version(config: Config, saved_model: Path) -> Path:
    """The version folder that a SavedModel has in `--export_dir`, or in a folder below it.

    A slimmer network in `saved_models/slim` has the name and the number of another one in `saved_models`.
    """
    root = Path(config.export_dir)
    if root.absolute() in saved_model.absolute().parents:
        return saved_model
    return root / saved_model.parent.name / saved_model.name


def refuse_other_runs(config: Config, metrics: dict) -> None:
    """Raises UserError where the portable artefacts would be among those of another run, or have the number of its SavedModel.

    They would also be hard to tell from SavedModels in the same folder.
    """
    saved_model = Path(metrics["export"]["path"])
    versions = _version(config, saved_model), _exports(config, saved_model)
    _refuse_mixing(config, versions[0].parent)
    if found := [folder for version in versions for folder in model_folders.of_other_runs(version, metrics)]:
        rule = f"version {saved_model.name} is of another run there ('{found[0]}'); the artefacts need another folder"
        raise UserError(f"--export_dir: {rule}. Received: {config.export_dir!r}")


def _say(row: dict, score: str) -> None:
    if not row["published"]:
        console.say(f"warning: {row['artefact']} was not published: {row['reason']}")
        return
    figures = f"{TITLES[score]} {console.format_metric(row[score])}, loss {console.format_metric(row['loss'])}"
    console.say(f"exported: {row['path']} ({figures} from bytes; {row['bytes'] / 1000:,.0f} kB)")
