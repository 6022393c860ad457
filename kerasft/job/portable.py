"""The portable artefacts of a run: written and proven after training, or for a finished run by `--mode=compress`."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from kerasft import report
from kerasft.console import console
from kerasft.console.wording import number, percent
from kerasft.data import pipeline
from kerasft.data.splits import Splits
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.score_names import TITLES
from kerasft.evaluation.scoring import Scorer
from kerasft.export import model_folders
from kerasft.export.artefact import Answer
from kerasft.export.keras_model import FILE as KERAS_FILE
from kerasft.export.portable import FORMATS, publish
from kerasft.job import artefact_costs, slim_steps
from kerasft.job.finished_run import reopen
from kerasft.networks.network import Network
from kerasft.report.compress_page import cheapest, sentence
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, one_of
from kerasft.storage import run_folder
from kerasft.strategies import planning
from kerasft.training import train_setup

JSON_NAME = "compress.json"
SCRATCH = ".compress"


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
    return {name: {"artefact": name, "published": False, "reason": "refused by --gate"} for name in names}


def export_folders(config: Config, metrics: dict) -> list[Path]:
    """The version folder of a run's SavedModel, and that of its portable artefacts, where there are any of this run.

    Args:
        metrics: the `metrics.json` of the run.
    """
    saved_model = Path(metrics["export"]["path"])
    found = (saved_model, _exports(config, saved_model))
    return [folder for folder in found if folder.is_dir() and not _of_other_runs(folder, metrics)]


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


def _of_other_runs(version: Path, metrics: dict) -> list[Path]:
    """The model folders of a version that say that they are of another run. Its number was given again."""
    # Artefacts of earlier versions have the digest of the weights. Runs of earlier versions do not know what theirs have.
    own = (metrics.get("run"), metrics.get("weights_sha256"))
    folders = [version, *(version / name for name in model_folders.artefacts(version))] if own[0] else []
    return [folder for folder in folders if model_folders.read_metadata(folder).get("run", own[0]) not in own]


def _refuse_other_runs(config: Config, metrics: dict) -> None:
    """Raises UserError where the portable artefacts would be among those of another run, or have the number of its SavedModel."""
    saved_model = Path(metrics["export"]["path"])
    versions = _version(config, saved_model), _exports(config, saved_model)
    if found := [folder for version in versions for folder in _of_other_runs(version, metrics)]:
        rule = f"version {saved_model.name} is of another run there ('{found[0]}'); the artefacts need another folder"
        raise UserError(f"--export_dir: {rule}. Received: {config.export_dir!r}")


@pipeline.user_errors()
def compress(settings: Config, run: str, timings: bool = True) -> list[dict]:
    """Publishes portable artefacts of a finished run, and writes `compress.json` and `compress.html` into its folder.

    The slimmer networks that `--target` has made of it are further rows.

    Args:
        settings: `--export`, `--max_drop`, `--export_dir` and `--allow_imports` are taken from it; the rest from the run.
        run: the run folder.
        timings: whether start-up, memory and speed are measured, in processes of their own.

    Returns:
        The rows of `compress.json`: the SavedModel, the portable artefacts, the slimmer networks.

    Raises:
        UserError: no finished run, `--export` names no portable format, the images have changed, or another run has this version
            in `--export_dir`.
    """
    folder = Path(run)
    if not publish.parse_formats(settings.specs("export")):
        rule = f"must name a format for another runtime: {one_of(FORMATS)}"
        raise UserError(f"--export: {rule}. Received: {settings.export!r}")
    metrics = run_folder.read_json(folder / "metrics.json")
    if not metrics.get("export", {}).get("published", True):
        rule = "its model is not published (--gate); the command of the run without --gate publishes it"
        raise UserError(f"--model: {rule}. Received: {run!r}")
    changes = {name: getattr(settings, name) for name in ("allow_imports", "export", "max_drop", "export_dir")}
    opened = reopen(run, **changes)
    config, metrics, network, splits = opened.config, opened.metrics, opened.network, opened.splits
    _refuse_other_runs(config, metrics)
    with run_folder.scratch(folder, SCRATCH) as place:
        scorer = train_setup.prepare(config, network, splits, place).scorer
    arrays, key = {"labels": splits.test.labels}, "values" if network.task == "regression" else "probabilities"
    run_name = metrics.get("run", metrics["weights_sha256"])
    answer = Answer(run_name, splits.classes, opened.thresholds, scorer.scale, metrics["framing"])
    score, saved_model = scorer.key, Path(metrics["export"]["path"])

    def interval(answers: np.ndarray, value: float) -> list[float] | None:
        test, found = metrics["test"] | {score: value}, arrays | {key: answers}
        _, low, high = score_interval(network.task, test, found, splits.classes)
        return None if low is None else [low, high]

    rows = list(export(config, network, answer, splits, scorer, opened.outputs, saved_model, folder, interval).values())
    folders = export_folders(config, metrics)
    report.write_model_card(folder, metrics, folders)
    there = saved_model in folders
    whole = {"artefact": publish.SAVED_MODEL, "path": saved_model.as_posix(), "published": there}
    whole["reason"] = "" if there else "its folder is not there any more"
    whole |= {name: metrics["test"][name] for name in (score, "loss", "n")}
    whole["interval"] = interval(opened.outputs, whole[score])
    files = saved_model.rglob("*") if there else [folder / KERAS_FILE]
    whole["bytes"] = sum(file.stat().st_size for file in files if file.is_file())
    rows += slim_steps.rows(folder, metrics, score, splits.test.ids, opened.outputs)
    rows = [{"number": number} | row for number, row in enumerate([whole, *rows], 1)]
    if timings:
        found = artefact_costs.measure({row["artefact"]: Path(row["path"]) for row in rows if row["published"]})
        rows = [row | found.get(row["artefact"], {}) for row in rows]
    values = {"rows": rows, "max_drop": config.max_drop, "score": score, "name": saved_model.parent.name}
    values |= {"timed": timings, "cheapest": cheapest([row for row in rows if score in row], score)}
    run_folder.write_json(folder / JSON_NAME, values)
    report.write_compress(folder, values)
    console.print_table(_table(rows, score))
    if text := sentence(values):
        console.say(text)
    console.say(f"compress: {folder / JSON_NAME}, {folder / 'compress.html'}")
    return rows


def _say(row: dict, score: str) -> None:
    if not row["published"]:
        console.say(f"warning: {row['artefact']} was not published: {row['reason']}")
        return
    figures = f"{TITLES[score]} {console.format_metric(row[score])}, loss {console.format_metric(row['loss'])}"
    console.say(f"exported: {row['path']} ({figures} from bytes; {row['bytes'] / 1000:,.0f} kB)")


def _table(rows: list[dict], score: str) -> Table:
    table = Table(title="Artefacts, on the test images", title_justify="left")
    heads = ("artefact", TITLES[score], "loss", "same", "kB", "img/s (1)", "(32)", "kept")
    for head in heads:
        justify = "left" if head in ("artefact", "kept") else "right"
        table.add_column(head, justify=justify, overflow="fold")
    for row in rows:
        speeds = row.get("images_per_second", {})
        cells = [
            row["artefact"],
            *(console.format_metric(row[name]) if name in row else "" for name in (score, "loss")),
        ]
        cells += [percent(row["agreement"]) if "agreement" in row else ""]
        cells += [f"{row['bytes'] / 1000:,.0f}" if "bytes" in row else ""]
        cells += [number(speeds[size]) if size in speeds else "" for size in ("1", "32")]
        table.add_row(*cells, "yes" if row["published"] else "no")
    return table
