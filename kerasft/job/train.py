"""The main job: audit, train, evaluate, export and report. Each step is timed and recorded in the run folder."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft import report
from kerasft.console import console
from kerasft.data import pipeline, sources
from kerasft.data.listing import Listing
from kerasft.data.splits import Split, Splits
from kerasft.export import saved_model
from kerasft.export.artefact import Answer, publish
from kerasft.export.keras_model import KERAS_MODEL
from kerasft.export.portable import publish as portable_formats
from kerasft.export.proof import UnreadableError
from kerasft.job import (
    costs,
    finished_updates,
    image_reader,
    portable_export,
    reference_models,
    robustness,
    served_baseline,
    train_phases,
    uncertainty,
)
from kerasft.job.data_changes import refuse_changes
from kerasft.job.evaluate import Evaluation
from kerasft.job.file_changes import refuse_other_files
from kerasft.job.run_summary import report_finished, summarise
from kerasft.job.train_phases import TrainedRun, record_seconds
from kerasft.networks.network import Network
from kerasft.probes import boosted_trees
from kerasft.settings import machine
from kerasft.settings.config import Config
from kerasft.storage import checkpoints, disk_cache, run_folder, run_lock
from kerasft.strategies import budget
from kerasft.training import budgeting


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        metrics: as in `metrics.json`.
    """

    folder: Path
    metrics: dict


@pipeline.user_errors()
def train(config: Config, began: float | None = None) -> Run:
    """Runs a Config, from data to SavedModel. A finished run is only read.

    Args:
        config: the settings.
        began: moment of the monotonic clock from which `--budget_minutes` counts; by default now.

    Raises:
        UserError: something is wrong with the Config, the data or the run folder.
        ParityError: the exported model does not score like the trained one.
        GateError: the model is worse than `--baseline`, and `--gate` is set. The run is finished all the same.
    """
    seconds, started = {}, time.monotonic()
    budget.check(config.budget_minutes, config.deterministic)
    portable_formats.parse_formats(config.specs("export"))
    if config.boosted_trees:
        boosted_trees.load()
    listing = sources.load(config)
    folder, finished = run_folder.find(config, listing.name)
    baseline = None
    if finished is None or finished_updates.compares(config, finished):
        baseline = served_baseline.open_baseline(config, listing.task, listing.classes)
    if finished is None:
        with run_lock.locked(folder):
            # Another process may have finished it in the meantime.
            folder, finished = run_folder.open_folder(config, listing.name)
            if finished is None:
                return _train(config, listing, folder, baseline, seconds, started, began or started)
    finished = run_folder.read_json(folder / "metrics.json", "task", "test", "export", "seconds")
    refuse_changes(config, listing, folder)
    refuse_other_files(finished.get("settled", {}), folder)
    finished = finished_updates.complete(config, listing, folder, finished, baseline)
    report_finished(folder, finished, listing)
    return _end(folder, finished)


def _end(folder: Path, metrics: dict) -> Run:
    """Prints the results. A model that `--gate` refuses ends the command, now that all of it is recorded."""
    summarise(folder, metrics)
    served_baseline.check_gate(folder, metrics)
    return Run(folder, metrics)


def _train(
    config: Config,
    listing: Listing,
    folder: Path,
    baseline: served_baseline.Baseline | None,
    seconds: dict,
    started: float,
    began: float,
) -> Run:
    """Runs the steps in a locked run folder."""
    exports = Path(config.export_dir) / listing.name
    portable_export.check_folders(config, exports)
    done = train_phases.train_phases(config, listing, folder, exports, seconds, began)
    network, splits = done.network, done.splits
    exported = _evaluate_and_export(config, listing.name, folder, exports, baseline, done, seconds)
    # After the export, which reads the same weights in a thread of its own.
    digest, cost = weights_digest(network.model), costs.measure(network, done.forward, exported.path)
    models = reference_models.fit(done.trained, done.initial_backbone, splits, boosted=config.boosted_trees)
    if config.boosted_trees and not (models and boosted_trees.NAME in models.models):
        console.say(
            f"boosted trees: left out, for {'there are too many features' if models else 'no features are at hand'}"
        )
    measured = {}
    if config.robustness != "none":
        with record_seconds(seconds, "robustness"):
            measured = robustness.measure(
                config.robustness, network, done.forward, splits.test, done.scorer, config.seed, models
            )
    found = reference_models.measure(models, done.trained, splits, exported.evaluation)
    seconds["total"] = round(time.monotonic() - started + done.trained.earlier_seconds, 3)
    metrics = _metrics(done, exported, measured, seconds, digest, cost, found)
    by_path = image_reader.make_reader(replace(listing, framing=splits.train.framing), network.size)
    of_test = partial(pipeline.decoded_images, splits.test, size=network.size)
    metrics |= report.write_report(folder, metrics, of_test, by_path)
    folders = portable_export.export_folders(config, metrics) if exported.published else [exported.path]
    report.write_model_card(folder, metrics, folders)
    # Last: a run that has it is finished. Until then the checkpoint stays, from which all of this is done again.
    run_folder.write_figures(folder / "metrics.json", metrics)
    checkpoints.remove(folder)
    disk_cache.remove(done.trained.setup.cache)
    budgeting.say_overdrawn(config.budget_minutes, time.monotonic() - began)
    return _end(folder, metrics)


class _Exported(NamedTuple):
    """What became of the test images and of the artefacts.

    Attributes:
        evaluation: of the network on the test images.
        figures: of `--abstain`, `--coverage` and `--baseline`, as in `metrics.json`.
        proof: of the SavedModel, which is `export` in `metrics.json`.
        artefacts: the others, by name.
        path: the version folder of the SavedModel.
        published: whether it is in `--export_dir`; `--gate` may have refused it.
    """

    evaluation: Evaluation
    figures: dict[str, Any]
    proof: dict[str, Any]
    artefacts: dict[str, dict]
    path: Path
    published: bool


def _evaluate_and_export(
    config: Config,
    name: str,
    folder: Path,
    exports: Path,
    baseline: served_baseline.Baseline | None,
    done: TrainedRun,
    seconds: dict[str, float],
) -> _Exported:
    """Scores the test images, and publishes the artefacts while that lasts.

    Args:
        name: of the data.
        folder: the run folder.
        exports: the folder in `--export_dir`.
        baseline: the served model, or None.
        done: of the phases.
        seconds: where the times are recorded.
    """
    network, splits = done.network, done.splits
    with record_seconds(seconds, "evaluate"), done.noting_disk_space():
        features_of = uncertainty.make_feature_predictor(network)
        fitted = uncertainty.fit(config, network, splits, done.val_outputs, features_of)
    run, framing = done.trained.state.run, splits.train.framing
    answer = Answer(run, splits.classes, done.thresholds, done.scorer.scale, framing, fitted)
    warm, compared = splits.val if config.warmup else None, {}

    def judge(answered: Mapping[str, np.ndarray]) -> Path | None:
        """Compares the proven export with the baseline, and gives the folder of one that `--gate` refuses."""
        compared["baseline"] = served_baseline.compare(baseline, config, splits, done.scorer, answered, folder)
        refused = served_baseline.refuses(compared["baseline"])
        return served_baseline.unpublished(folder, name) if refused else None

    with done.noting_disk_space(), _written_meanwhile(network, answer, exports, warm) as draft:
        with record_seconds(seconds, "evaluate"):
            evaluation = done.evaluate()
            extra_outputs, figures = uncertainty.evaluate(fitted, splits, evaluation, features_of)
        with record_seconds(seconds, "export"):
            keras_file = _publish_keras(network, answer, splits, evaluation, folder)
            proof = saved_model.finish(
                draft.result(),
                network,
                answer,
                splits.test,
                evaluation.test,
                extra_outputs,
                judge if baseline else None,
            )
            path = Path(proof["path"])
            if published := path.parent == exports:
                others = portable_export.export(
                    config, network, answer, splits, done.scorer, evaluation.test, path, folder
                )
            else:
                proof["published"] = False
                others = portable_export.withheld(config)
    artefacts = {KERAS_MODEL.name: keras_file, **others}
    return _Exported(evaluation, {**figures, **compared}, proof, artefacts, path, published)


def _metrics(
    done: TrainedRun,
    exported: _Exported,
    measured: dict[str, Any],
    seconds: dict[str, float],
    digest: str,
    cost: dict[str, Any],
    baselines: dict[str, dict],
) -> dict[str, Any]:
    """The contents of `metrics.json`, without the evidence of the report.

    Args:
        measured, cost, baselines: of `robustness.measure`, `costs.measure` and `reference_models.measure`.
        digest: of the weights.
    """
    network, splits, state = done.network, done.splits, done.trained.state
    return {
        "task": network.task,
        "classes": list(splits.classes),
        "backbone": network.name,
        "image_size": network.size,
        "framing": splits.train.framing,
        "augment": state.resolved.augment,
        "tta": network.tta,
        "settled": state.resolved.to_json(),
        **exported.evaluation.figures,
        **exported.figures,
        **measured,
        "phases": [record.to_json() for record in state.records],
        "gradient_health": {record.name: record.health for record in state.records if record.health},
        "seconds": seconds,
        "peak_rss_mb": round(machine.peak_bytes() / 2**20, 1),
        "run": state.run,
        "data_digest": splits.digest,
        "weights_sha256": digest,
        "cost": cost,
        "baselines": baselines,
        "export": exported.proof,
        "artefacts": exported.artefacts,
    }


@contextmanager
def _written_meanwhile(network: Network, answer: Answer, exports: Path, warm: Split | None) -> Iterator[Future]:
    """Writes the SavedModel's draft in a thread of its own. Tracing keeps one core busy, and scoring the others."""
    with ThreadPoolExecutor(1, "export") as pool:
        draft = pool.submit(saved_model.start, network, answer, exports, warm)
        try:
            yield draft
        finally:
            if draft.exception() is None:
                saved_model.abandon(draft.result())


def _publish_keras(network: Network, answer: Answer, splits: Splits, evaluation: Evaluation, folder: Path) -> dict:
    """Publishes `model.keras`. Without it the run still has its SavedModel, so one that Keras refuses only warns."""
    try:
        return publish(KERAS_MODEL, network, answer, splits.test, evaluation.test, folder)
    except UnreadableError as error:
        console.say(f"warning: {error}")
        return {"published": False, "reason": str(error)}


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over all weights in layer order."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
