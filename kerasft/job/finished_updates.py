"""What a finished run is asked for later: another `--baseline`, more `--robustness`, or to be published after all or elsewhere.

Nothing is trained.
"""

import shlex
from pathlib import Path

from kerasft import report
from kerasft.console import console
from kerasft.data.listing import Listing
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.export import artefact, model_folders, saved_model
from kerasft.export.keras_model import KERAS_FILE
from kerasft.export.serving_outputs import serving_outputs
from kerasft.job import portable_export, robustness, served_baseline
from kerasft.job.finished_run import Reopened, reopen
from kerasft.job.run_summary import page_images
from kerasft.job.served_baseline import Baseline
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.errors import UserError
from kerasft.storage import predictions_file, run_folder, run_lock
from kerasft.training import train_setup

SCRATCH = ".measured"


def compares(config: Config, metrics: dict) -> bool:
    """Whether a finished run is to be compared with a baseline that it was not compared with.

    A run folder in `--baseline` stands for another model once that run was made again.

    Raises:
        UserError: there is no such baseline.
    """
    if not config.baseline:
        return False
    before, now = metrics.get("baseline"), served_baseline.identify(config.baseline)
    # Comparisons of earlier versions do not say which run the baseline is of.
    return before is None or any(before.get(name, value) != value for name, value in now.items())


def complete(config: Config, listing: Listing, folder: Path, metrics: dict, baseline: Baseline | None) -> dict:
    """Does what the flags ask for in addition, and records it: `metrics.json`, report and model card are written again.

    A model that `--gate` had refused is published once its flags do not refuse it any more. Another `--export_dir` gets the
    model too; the default stands for the folder that has it.

    Args:
        config: the settings of the run, with today's `--baseline`, `--gate` and `--robustness`.
        folder: of the finished run.
        metrics: as in `metrics.json`.
        baseline: if `compares`.

    Returns:
        The metrics as they are now.

    Raises:
        UserError: a file of the run is missing.
    """
    changed = dict(metrics)
    if baseline or robustness.adds(config.robustness, metrics):
        with run_lock.locked(folder):
            opened = _open(config, folder)
            with run_folder.scratch(folder, SCRATCH) as place:
                scorer = train_setup.prepare(config, opened.network, opened.splits, place).scorer
            if baseline:
                changed["baseline"] = _compare(config, opened, scorer, baseline)
            if robustness.adds(config.robustness, metrics):
                forward = scoring.make_predictor(opened.network.model)
                changed |= robustness.measure(
                    config.robustness, opened.network, forward, opened.splits.test, scorer, config.seed
                )
    if not baseline and "baseline" in metrics:
        changed["baseline"] = metrics["baseline"] | {"asked": config.gate}
    refused = "baseline" in changed and served_baseline.refuses(changed["baseline"])
    publishes = not _is_published(config, metrics["export"]) and not refused
    if changed == metrics and not publishes:
        return metrics
    with run_lock.locked(folder):
        if publishes:
            # Another process may have published it in the meantime.
            recorded = run_folder.read_json(folder / "metrics.json", "export")
            done = _is_published(config, recorded["export"])
            changed |= {name: recorded[name] for name in ("export", "artefacts") if name in recorded}
            if not done:
                changed["export"] = _publish(config, listing.name, folder, recorded)
                released = portable_export.released(recorded.get("artefacts", {}), _command_of_formats(config, folder))
                changed |= {"artefacts": released} if released else {}
        run_folder.write_settings(config, folder)
        changed |= report.write_report(folder, changed, *page_images(folder, changed, listing))
        version_folder = Path(changed["export"]["path"])
        published = changed["export"].get("published", True)
        report.write_model_card(
            folder, changed, portable_export.export_folders(config, changed) if published else [version_folder]
        )
        run_folder.write_figures(folder / "metrics.json", changed)
        if published:
            artefact.discard(folder / run_folder.UNPUBLISHED)
    return changed


def _open(config: Config, folder: Path) -> Reopened:
    for name in (KERAS_FILE, predictions_file.NAME):
        if not (folder / name).is_file():
            raise UserError(f"--run_dir: {name} is missing; --noresume runs everything again. Received: '{folder}'")
    return reopen(str(folder), config.allow_imports)


def _compare(config: Config, opened: Reopened, scorer: Scorer, baseline: Baseline) -> dict:
    exported, test = _exported(opened.folder, opened.metrics), opened.splits.test
    answered = serving_outputs(exported, opened.network.task, test, (served_baseline.DECISIONS,))
    return served_baseline.compare(baseline, config, opened.splits, scorer, answered, opened.folder)


def _is_published(config: Config, export: dict) -> bool:
    """Whether `export` of the metrics is in `--export_dir`."""
    root = Path(config.export_dir)
    elsewhere = root.absolute() not in Path(export["path"]).absolute().parents
    return export.get("published", True) and not (elsewhere and config.export_dir != FIELDS["export_dir"].default)


def _publish(config: Config, name: str, folder: Path, metrics: dict) -> dict:
    """Copies a version that is refused or elsewhere into `--export_dir`, and gives its new `export` for `metrics.json`.

    A version that a command which was killed had published already is not published again.
    """
    kept, exports = _exported(folder, metrics), Path(config.export_dir) / name
    run = model_folders.read_metadata(kept).get("run", "")
    there = (path for path in model_folders.versions(exports) if model_folders.read_metadata(path).get("run") == run)
    path = next(there, None) or saved_model.copy(kept, exports)
    origin = f"a copy of {kept}" if metrics["export"].get("published", True) else "which --gate had refused"
    console.say(f"published: {path}, {origin}")
    if portable_export.publish.parse_formats(config.specs("export")):
        console.say(f"other formats: {_command_of_formats(config, folder)}")
    return {**{key: value for key, value in metrics["export"].items() if key != "published"}, "path": path.as_posix()}


def _command_of_formats(config: Config, folder: Path) -> str:
    """The command that writes the other formats of `--export` beside a published version."""
    flags = [f"--model={folder}", f"--export={config.export}", f"--export_dir={config.export_dir}"]
    return shlex.join(["kerasft", "compress", *flags])


def _exported(folder: Path, metrics: dict) -> Path:
    path = Path(metrics["export"]["path"])
    # Once a version is moved away, another run may get its number.
    if model_folders.of_other_runs(path, metrics) or not (path / model_folders.SAVED_MODEL_FILE).is_file():
        rule = f"its SavedModel is not there any more ({path}); --noresume runs everything again"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
    return path
