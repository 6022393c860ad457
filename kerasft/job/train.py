"""The main job: audit, train, evaluate, export, each timed and written into the run folder."""

import hashlib
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft import report
from kerasft.console import console, stderr_filter
from kerasft.data import pipeline, sources, splits
from kerasft.data.audit import audit
from kerasft.data.decode import decode_batch
from kerasft.data.listing import SPLITS, Listing
from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.export import saved_model
from kerasft.job import resolve
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.settings import failures
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints, disk_cache, disk_space, image_cache, manifest, run_folder, run_lock
from kerasft.training.trainer import Trainer


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
    folder, finished = run_folder.look(config, listing.name)
    if finished is None:
        with run_lock.alone(folder):
            folder, finished = run_folder.open_folder(
                config, listing.name
            )  # another run may have finished it meanwhile
            if finished is None:
                return _train(config, listing, folder, clock, started)
    finished = run_folder.read_json(folder / "metrics.json", "task", "test", "export", "seconds")
    _refuse_changes(config, listing, folder)
    _complete(folder, finished, listing)
    _summary(folder, finished)
    return Run(folder, finished)


def _refuse_changes(config: Config, listing: Listing, folder: Path) -> None:
    """Raises UserError where the data are not those that a run was given; made ones cannot change."""
    if listing.name in ("digits", "generated") and config.data.startswith(listing.name):
        return
    if changed := manifest.changes(folder, listing):
        rule = (
            f"has changed since the run in '{folder}' began: {changed}; --noresume runs it again on what is there now"
        )
        raise UserError(f"--data: {rule}, another --run_dir keeps both. Received: {config.data!r}")


def _train(config: Config, listing: Listing, folder: Path, clock: dict, started: float) -> Run:
    """Audits, trains, evaluates and exports in a folder that is ours."""
    exports = Path(config.export_dir) / listing.name
    # A folder that cannot be written is told now, not after training.
    run_folder.try_to_make(exports)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    network, settled = resolve.resolve_settings(config, listing, folder)
    with _timed(clock, "audit"):
        data = prepare(config, listing, network.size, folder)
    needed = disk_space.check(sum(weight.nbytes for weight in network.model.get_weights()), folder, exports)
    with _timed(clock, "train"), _noted(f"about {failures.size(needed)} are needed in all"):
        trainer = Trainer(config, network, data, folder, settled)
        records = trainer.train()
        network = networks.in_precision(network, "float32")  # what was learned in half precision is served in full
        # Not compiled, so that Keras alone can load it: the loss is a function of ours.
        plain = keras.Model(network.model.inputs, network.model.outputs, name=network.model.name)
        run_folder.write_by_name(folder / "model.keras", plain.save)
    with _timed(clock, "evaluate"):
        answer, expected, scores = _evaluate(network, data, trainer, folder)
    with _timed(clock, "export"):
        warm = data.val if config.warmup else None
        proof = saved_model.export(network, answer, data.test, expected, exports, warm)
    clock["total"] = round(time.monotonic() - started, 3)
    metrics = {
        "task": network.task,
        "classes": list(data.classes),
        "backbone": network.name,
        "image_size": network.size,
        "augment": trainer.state.settled["augment"],
        "settled": trainer.state.settled,
        **scores,
        "phases": records,
        "seconds": clock,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "weights_sha256": weights_digest(network.model),
        "export": proof,
    }

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        return decode_batch(tf.constant([data.test.read(int(row)) for row in rows]), network.size).numpy()

    report.write(folder, metrics, thumbnails)
    # Last, for a run that has it is finished. Until then the checkpoint stays, from which all of this is done again.
    run_folder.write_json(folder / "metrics.json", metrics)
    checkpoints.remove(folder)
    disk_cache.remove(trainer.cache)
    _summary(folder, metrics)
    return Run(folder, metrics)


def _complete(folder: Path, metrics: dict, listing: Listing) -> None:
    """Says that a run is finished, writes its report where there is none, and names what is gone."""
    if (folder / "report.html").is_file() or not (folder / "predictions.npz").is_file():
        console.say(f"{folder} is finished with these settings; nothing to do (--noresume runs it again).")
    else:
        report.write(folder, metrics, _old_thumbnails(folder, metrics["image_size"], listing))
        console.say(f"{folder} is finished with these settings, but had no report.html: it is written now.")
    parts = [folder / "model.keras", folder / "predictions.npz", Path(metrics["export"]["path"], "saved_model.pb")]
    for path in (path for path in parts if not path.is_file()):
        console.say(f"warning: {path} is gone (--noresume runs it all again)")


def _old_thumbnails(folder: Path, size: int, listing: Listing) -> Callable[[np.ndarray], np.ndarray]:
    """The test pictures of a finished run, uint8 [B, S, S, 3], by their names; grey where one is gone or spoiled."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
        ids = stored["ids"]
    places = {str(name): place for place, name in enumerate(listing.ids)}

    def picture(name: str) -> np.ndarray:
        try:
            return decode_batch(tf.constant([listing.read(places[name])]), size).numpy()[0]
        except (KeyError, OSError, ValueError, tf.errors.InvalidArgumentError):
            return np.full((size, size, 3), 128, np.uint8)

    return lambda rows: np.stack([picture(str(ids[row])) for row in rows])


def _evaluate(
    network: Network, data: splits.Splits, trainer: Trainer, folder: Path
) -> tuple[saved_model.Answer, np.ndarray, dict]:
    """Scores val and test and writes `predictions.npz`; what the export is to say, what of the test set, figures."""
    predict = scoring.predictor(network.model)
    outputs = {part: predict(_batches(data, part, network.size)) for part in ("val", "test")}
    several = network.task == "multi_label"
    limits = metrics.thresholds(scoring.served(network.task, outputs["val"]), data.val.labels) if several else None
    scores = {}
    for part in ("test", "val"):
        scorer = Scorer(network.task, getattr(data, part).labels, trainer.scale, error=trainer.scorer.error)
        scores[part] = metrics.report(scorer, outputs[part], data.classes, limits) | {
            "excluded_copies": data.excluded[part]
        }
    expected = scoring.served(network.task, outputs["test"])
    _save_predictions(folder, network.task, data, expected, limits)
    return saved_model.Answer(trainer.state.run, data.classes, limits, trainer.scale), expected, scores


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
    console.say(f"{listing.name}: {len(listing.ids)} files, {listing.task}, {names}, {size}x{size} pixels")
    place = image_cache.pixel_store(listing, size, disk_cache.of(config, folder))
    with place as pixel_store, console.progress("audit", len(listing.ids)) as advance, stderr_filter.without_notices():
        checked, pictures = audit(listing, size, advance, pixel_store)
    if any((folder / name).exists() for name in checkpoints.NAMES):
        _refuse_changes(config, listing, folder)
    else:
        manifest.write(folder, listing, checked)
    console.show_findings(checked.findings)
    bad = [finding for finding in checked.findings if finding.verdict == "reject"]
    rows = [finding._asdict() for finding in checked.findings]
    report = {"files": len(listing.ids), "counts": {}, "findings": rows}
    run_folder.write_json(folder / "audit.json", report)
    if bad and config.bad_images == "fail":
        raise UserError(
            f"--bad_images: {len(bad)} files or folders cannot be used (see {folder / 'audit.json'}). Received: 'fail'"
        )
    data = splits.make_splits(
        checked, pictures, config.val_fraction, config.test_fraction, config.seed, config.per_class_limit
    )
    console.show_findings(data.findings[len(checked.findings) :])
    rows = [finding._asdict() for finding in data.findings]
    run_folder.write_json(folder / "audit.json", {**report, "counts": data.counts(), "findings": rows})
    kinds = Counter(finding.kind.replace("_", " ") for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing amiss"
    sizes = ", ".join(f"{len(getattr(data, part))} {part}" for part in SPLITS)
    console.say(f"audit: {sizes}; {found}")
    for finding in data.findings:
        if finding.kind == "missing_class":
            console.say(f"WARNING: {finding.path} has {finding.detail}")
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
    run_folder.write(folder / "predictions.npz", lambda file: np.savez_compressed(file, **arrays))


@contextmanager
def _noted(text: str):
    """Adds a note to an error, for `failures`."""
    try:
        yield
    except Exception as error:
        error.add_note(text)
        raise


@contextmanager
def _timed(clock: dict, name: str):
    started = time.monotonic()
    yield
    clock[name] = round(time.monotonic() - started, 3)


def _summary(folder: Path, metrics: dict) -> None:
    test, proof, score = metrics["test"], metrics["export"], scoring.SCORES[metrics["task"]]
    loss = "log loss" if metrics["task"] != "regression" else "loss"
    found = f"{console.NAMES[score]} {console.figure(test[score])}"
    if len(each := test.get("per_target", {})) > 1:  # of different units: a mean of them says nothing
        found = "mean absolute error " + ", ".join(f"{name} {console.figure(row['mae'])}" for name, row in each.items())
    console.say(f"test: {found}, {loss} {console.figure(test['loss'])} on {test['n']} pictures")
    if test.get("excluded_copies"):
        console.say(f"test: copies of pictures in train or val, which do not count: {test['excluded_copies']}")
    if absent := [name for name, row in test.get("per_class", {}).items() if not row["n"]]:
        named = ", ".join(absent[: splits.NAMED]) + (", ..." if len(absent) > splits.NAMED else "")
        console.say(f"WARNING: the test score says nothing of what has no test picture: {named}")
    alike = f"{proof['top1_agreement']:.2%} same labels, probabilities" if "top1_agreement" in proof else "values"
    console.say(f"exported: {proof['path']} (from bytes: {alike} within {proof['max_abs_diff']:.1e})")
    page = ", with report.html" if (folder / "report.html").is_file() else ""
    console.say(f"recorded: {folder}{page} ({metrics['seconds']['total']:.0f} s in all)")
