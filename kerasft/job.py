"""The main job: audit, train, evaluate, export, each timed and written into the run folder."""

import hashlib
import resource
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft import checkpoint, decoded, evaluate, export, measures, quiet, report, runs, screen, settling
from kerasft import model as models
from kerasft import store as stores
from kerasft.config import Config
from kerasft.data import pipeline, sources, splits
from kerasft.data.audit import audit
from kerasft.data.listing import SPLITS, Listing
from kerasft.decode import decode_batch
from kerasft.errors import UserError
from kerasft.evaluate import Judge
from kerasft.model import Network
from kerasft.trainer import Trainer


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: with everything that was recorded.
        metrics: as in `metrics.json`.
    """

    folder: Path
    metrics: dict


@pipeline.user_errors()
def train(config: Config) -> Run:
    """Does what a Config says, from data to SavedModel; a run that is finished already is only read.

    Raises:
        UserError: a mistake in the Config, the data or the run folder.
        ParityError: the exported model does not score like the trained one.
    """
    clock, started = {}, time.monotonic()
    listing = sources.load(config)
    folder, finished = runs.open_folder(config, listing.name)
    if finished:
        screen.say(f"{folder} is finished with these settings; nothing to do (--noresume runs it again).")
        _summary(folder, finished)
        return Run(folder, finished)
    exports = Path(config.export_dir) / listing.name
    exports.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written is told now, not after training
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    network, settled = settling.settle(config, listing, folder)
    with _timed(clock, "audit"):
        data = prepare(config, listing, network.size, folder)
    with _timed(clock, "train"):
        trainer = Trainer(config, network, data, folder, settled)
        records = trainer.train()
        network = models.in_precision(network, "float32")  # what was learned in half precision is served in full
        # Not compiled, so that Keras alone can load it: the loss is a function of ours.
        plain = keras.Model(network.model.inputs, network.model.outputs, name=network.model.name)
        runs.write_by_name(folder / "model.keras", plain.save)
    with _timed(clock, "evaluate"):
        answer, expected, scores = _evaluate(network, data, trainer, folder)
    with _timed(clock, "export"):
        warm = data.val if config.warmup else None
        proof = export.export(network, answer, data.test, expected, exports, warm)
    clock["total"] = round(time.monotonic() - started, 3)
    metrics = {
        "task": network.task,
        "classes": list(data.classes),
        "backbone": network.name,
        "image_size": network.size,
        "augment": trainer.standing.settled["augment"],
        "settled": trainer.standing.settled,
        **scores,
        "phases": records,
        "seconds": clock,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "weights_sha256": weights_digest(network.model),
        "export": proof,
    }
    runs.write_json(folder / "metrics.json", metrics)

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        return decode_batch(tf.constant([data.test.read(int(row)) for row in rows]), network.size).numpy()

    report.write(folder, thumbnails)
    checkpoint.remove(folder)
    stores.remove(trainer.store)
    _summary(folder, metrics)
    return Run(folder, metrics)


def _evaluate(
    network: Network, data: splits.Splits, trainer: Trainer, folder: Path
) -> tuple[export.Answer, np.ndarray, dict]:
    """Scores val and test and writes `predictions.npz`; what the export is to say, what of the test set, figures."""
    predict = evaluate.predictor(network.model)
    outputs = {part: predict(_batches(data, part, network.size)) for part in ("val", "test")}
    several = network.task == "multi_label"
    limits = measures.thresholds(evaluate.served(network.task, outputs["val"]), data.val.labels) if several else None
    scores = {}
    for part in ("test", "val"):
        judge = Judge(network.task, getattr(data, part).labels, trainer.scale, error=trainer.judge.error)
        scores[part] = measures.report(judge, outputs[part], data.classes, limits) | {
            "excluded_copies": data.excluded[part]
        }
    expected = evaluate.served(network.task, outputs["test"])
    _save_predictions(folder, network.task, data, expected, limits)
    return export.Answer(trainer.standing.run, data.classes, limits, trainer.scale), expected, scores


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over all weights in layer order."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def prepare(config: Config, listing: Listing, size: int, folder: Path) -> splits.Splits:
    """Decodes every picture, writes `audit.json`, says what is wrong, and splits what is left.

    Args:
        size: side in pixels.

    Raises:
        UserError: files that cannot be used under `--bad_images=fail`, or too few that can.
    """
    names = f"{len(listing.classes)} {'targets' if listing.task == 'regression' else 'classes'}"
    screen.say(f"{listing.name}: {len(listing.ids)} files, {listing.task}, {names}, {size}x{size} pixels")
    place = decoded.held(listing, size, stores.of(config, folder))
    with place as held, screen.progress("audit", len(listing.ids)) as advance, quiet.notices():
        checked, pictures = audit(listing, size, advance, held)
    screen.show_findings(checked.findings)
    bad = [finding for finding in checked.findings if finding.verdict == "reject"]
    rows = [finding._asdict() for finding in checked.findings]
    report = {"files": len(listing.ids), "counts": {}, "findings": rows}
    runs.write_json(folder / "audit.json", report)
    if bad and config.bad_images == "fail":
        raise UserError(
            f"--bad_images: {len(bad)} files or folders cannot be used (see {folder / 'audit.json'}). Received: 'fail'"
        )
    data = splits.carve(
        checked, pictures, config.val_fraction, config.test_fraction, config.seed, config.per_class_limit
    )
    screen.show_findings(data.findings[len(checked.findings) :])
    rows = [finding._asdict() for finding in data.findings]
    runs.write_json(folder / "audit.json", {**report, "counts": data.counts(), "findings": rows})
    kinds = Counter(finding.kind.replace("_", " ") for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing amiss"
    sizes = ", ".join(f"{len(getattr(data, part))} {part}" for part in SPLITS)
    screen.say(f"audit: {sizes}; {found}")
    for finding in data.findings:
        if finding.kind == "missing_class":
            screen.say(f"WARNING: {finding.path} has {finding.detail}")
    return data


def _batches(data: splits.Splits, part: str, size: int) -> tf.data.Dataset:
    return pipeline.evaluation_stream(getattr(data, part), size=size, batch_size=64)


def _save_predictions(
    folder: Path, task: str, data: splits.Splits, expected: np.ndarray, thresholds: np.ndarray | None
) -> None:
    arrays = {"ids": data.test.ids, "labels": data.test.labels, "classes": np.array(data.classes)}
    arrays["values" if task == "regression" else "probabilities"] = expected.astype(np.float32)
    if thresholds is not None:
        arrays["thresholds"] = thresholds
    runs.write(folder / "predictions.npz", lambda file: np.savez_compressed(file, **arrays))


@contextmanager
def _timed(clock: dict, name: str):
    started = time.monotonic()
    yield
    clock[name] = round(time.monotonic() - started, 3)


def _summary(folder: Path, metrics: dict) -> None:
    test, proof, score = metrics["test"], metrics["export"], evaluate.SCORES[metrics["task"]]
    loss = "log loss" if metrics["task"] != "regression" else "loss"
    screen.say(f"test: {screen.NAMES[score]} {test[score]:.4f}, {loss} {test['loss']:.4f} on {test['n']} pictures")
    if test.get("excluded_copies"):
        screen.say(f"test: copies of pictures in train or val, which do not count: {test['excluded_copies']}")
    if absent := [name for name, row in test.get("per_class", {}).items() if not row["n"]]:
        named = ", ".join(absent[: splits.NAMED]) + (", ..." if len(absent) > splits.NAMED else "")
        screen.say(f"WARNING: the test score says nothing of what has no test picture: {named}")
    alike = f"{proof['top1_agreement']:.2%} same labels, probabilities" if "top1_agreement" in proof else "values"
    screen.say(f"exported: {proof['path']} (from bytes: {alike} within {proof['max_abs_diff']:.1e})")
    screen.say(f"recorded: {folder}, with report.html ({metrics['seconds']['total']:.0f} s in all)")
