"""`--framing=auto` where images are not square: a linear probe on frozen features is cross-validated for each framing."""

import hashlib
import time
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits, example_weights
from kerasft.evaluation.scoring import SCORES, TITLES, Scorer, one_standard_error_rule
from kerasft.networks import layer_names
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix
from kerasft.training import linear_probe

# The framings in the order of preference. The first is what the network was most probably pretrained with, and shows the
# subject largest. `squash` comes before `pad`, because it spends no pixel on bars.
CANDIDATES = ("crop", "squash", "pad")
# What is taken where nothing can be measured: it loses nothing that stands at an edge.
UNMEASURED = "squash"
# Images whose features are computed for each framing, at most; more where there are more than a hundred classes.
MAX_IMAGES = 400
# So many images of each class at least, where there are as many.
MIN_IMAGES_PER_CLASS = 4
# On fewer images nothing is measured.
MIN_IMAGES = 30
FOLDS = 5
_BATCH_SIZE = 64


class Choice(NamedTuple):
    """A framing, why it was chosen, and a row for each candidate: `choice`, `loss`, the score by its name, `seconds`."""

    framing: str
    reason: str
    table: list[dict[str, Any]]


def choose(config: Config, network: Network, splits: Splits, cache: DiskCache) -> Choice:
    """Chooses by the one-standard-error rule, `crop` preferred: paired held-out losses of five folds of training images.

    Args:
        config: the settings.
        network: its features of the sample are probed, if it is pretrained.
        splits: of which only train is read.
        cache: keeps the features; where the sample is all of train, the head is solved on the same ones.
    """
    task, classes = splits.task, splits.classes
    if missing := _missing_evidence(config, network, len(splits.train)):
        return Choice(UNMEASURED, f"{missing}, and it loses nothing at the edges", [])
    rows = _sample(splits.train.labels, task, config.seed)
    labels = splits.train.labels[rows]
    weights = example_weights(splits.train, classes, task)[rows] if config.class_weights == "balanced" else None
    scale = splits.train.labels.std(0, dtype=np.float64) if task == "regression" else None
    scorer = Scorer(task, labels, scale, weights)
    prefix = feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
    losses, table = [], []
    for framing in CANDIDATES:
        started = time.monotonic()
        features = _features(prefix, _part(splits.train, rows, framing), network.size, cache)
        outputs = held_out_outputs(features, labels, len(classes), task, config.seed, weights)
        losses.append(scorer.losses(outputs))
        row = {"choice": framing, "loss": float(losses[-1].mean()), scorer.name: scorer.score(outputs)}
        table.append(row | {"seconds": round(time.monotonic() - started, 3)})
    best = one_standard_error_rule(losses)
    return Choice(CANDIDATES[best], _reason(CANDIDATES[best], losses, len(rows)), table)


def _missing_evidence(config: Config, network: Network, count: int) -> str:
    """Returns why nothing can be measured, in half a sentence; empty where it can."""
    if not network.pretrained:
        return "without pretrained weights nothing tells the framings apart"
    if config.preprocessing == "dataset":
        return "the pixel statistics of --preprocessing=dataset depend on the framing"
    if count < MIN_IMAGES:
        return f"{count} training images cannot tell the framings apart (needed: {MIN_IMAGES})"
    return ""


def say(choice: Choice, task: str) -> None:
    """Prints what was chosen, and what was measured of each framing."""
    score = SCORES[task]
    found = "; ".join(
        f"{row['choice']}: loss {console.figure(row['loss'])}, {TITLES[score]} {console.figure(row[score])}"
        for row in choice.table
    )
    console.say(f"framing: {choice.framing} ({choice.reason}{f'; {found}' if found else ''})")


def held_out_outputs(
    features: np.ndarray, labels: np.ndarray, outputs: int, task: str, seed: int, weights: np.ndarray | None
) -> np.ndarray:
    """Returns what probes say of the images that they were not solved on: logits float64 [N, C], or values [N, T].

    Args:
        features: float32 [N, D], standardised.
        labels, outputs, task, seed, weights: as in `linear_probe.solve`. The seed is of these folds too.
    """
    found = np.zeros((len(labels), outputs))
    for held in _folds(labels, task, seed):
        fitted = np.setdiff1d(np.arange(len(labels)), held)
        own = None if weights is None else weights[fitted]
        solved = linear_probe.solve(features[fitted], labels[fitted], outputs, task, seed, own)
        found[held] = features[held] @ solved.kernel + solved.bias
        if task == "regression":
            # The probe predicts standardised targets.
            targets = labels[fitted].astype(np.float64)
            found[held] = found[held] * targets.std(0) + targets.mean(0)
    return found


def _folds(labels: np.ndarray, task: str, seed: int) -> list[np.ndarray]:
    """Returns the rows that each fold holds out; those of a class are dealt out to all folds in turn."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if task == "single_label":
        order = order[np.argsort(labels[order], kind="stable")]
    return [order[start::FOLDS] for start in range(FOLDS)]


def _sample(labels: np.ndarray, task: str, seed: int) -> np.ndarray:
    """Returns rows in ascending order: all, or a random sample, with the classes in proportion."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if task != "single_label":
        return np.sort(order[:MAX_IMAGES])
    sizes = np.bincount(labels)
    share = np.round(sizes * min(1.0, MAX_IMAGES / len(labels)))
    wanted = np.minimum(sizes, np.maximum(MIN_IMAGES_PER_CLASS, share)).astype(int)
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label, count in enumerate(wanted)]))


def _part(split: Split, rows: np.ndarray, framing: str) -> Split:
    """Returns some rows of a split under a framing. Images that are stored are those of the split's own framing."""
    stored = split.images if framing == split.framing else None
    if len(rows) == len(split):
        return replace(split, images=stored, framing=framing)
    return Split(
        ids=split.ids[rows],
        labels=split.labels[rows],
        read=lambda index: split.read(int(rows[index])),
        images=stored and (lambda indices: stored(rows[indices])),
        digest=hashlib.sha256(repr((split.digest, rows.tolist())).encode()).hexdigest(),
        framing=framing,
    )


def _features(prefix: Prefix, split: Split, size: int, cache: DiskCache) -> np.ndarray:
    """Returns pooled features, float32 [N, D], standardised over the split."""
    if feature_cache.count_bytes(prefix.model, split, "float32") <= disk_cache.available_bytes(cache):
        values = feature_cache.load_or_compute(cache, prefix, split, size).rows
    else:
        values = prefix.predict(pipeline.evaluation_stream(split, size=size, batch_size=_BATCH_SIZE))
    standardise = keras.layers.Normalization(axis=-1, dtype="float32")
    standardise.build(values.shape)
    linear_probe.set_statistics(standardise, np.asarray(values, np.float32))
    return keras.ops.convert_to_numpy(standardise(np.asarray(values, np.float32)))


def _reason(framing: str, losses: list[np.ndarray], count: int) -> str:
    """Returns what the comparison of the probes' losses says, in half a sentence."""
    gap = losses[0] - min(losses, key=np.mean)
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    found = f"a probe on {count} training images, cross-validated"
    if framing == "crop":
        return f"{found}: no framing is measurably better" if gap.any() else f"{found}: the lowest loss"
    return f"{found}: the loss of crop is {console.figure(gap.mean())} higher, standard error {console.figure(error)}"
