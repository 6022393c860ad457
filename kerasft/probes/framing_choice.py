"""`--framing=auto` where images are not square: a linear probe on frozen features is cross-validated for each framing."""

import time
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits, example_weights
from kerasft.evaluation import intervals
from kerasft.evaluation.scoring import one_standard_error_rule
from kerasft.networks import layer_names
from kerasft.networks.network import Network
from kerasft.probes import depth_choice, folds, head_statistics, linear_probe, sampling
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix

# The framings in the order of preference. The first is what the network was most probably pretrained with, and shows the
# subject largest. `squash` comes before `pad`, because it spends no pixel on bars.
CANDIDATES = ("crop", "squash", "pad")
# What is taken where nothing can be measured: it loses nothing that stands at an edge.
UNMEASURED = "squash"
LOSSLESS = "and it loses nothing at the edges"
# Images whose features are computed for each framing, and more where a class would have too few of them.
MAX_IMAGES = 400
_BATCH_SIZE = 64


class FramingChoice(NamedTuple):
    """A framing, why, and what was measured of each: `choice`, `loss`, `accuracy` (of single labels), `seconds`."""

    framing: str
    reason: str
    table: list[dict[str, Any]]


def choose(config: Config, network: Network, splits: Splits, cache: DiskCache) -> FramingChoice:
    """Chooses by the one-standard-error rule, `crop` preferred: paired held-out losses of folds of training images.

    Args:
        config: the settings.
        network: its features of the sample are probed, if it is pretrained.
        splits: of which only train is read.
        cache: keeps the features. Where the sample is all of train, `depth_choice` finds those of the chosen framing here.
    """
    task, classes = splits.task, splits.classes
    if missing := _missing_evidence(config, network, len(splits.train)):
        return FramingChoice(UNMEASURED, f"{missing}, {LOSSLESS}", [])
    rows = sampling.sample(splits.train.labels, len(classes), task, config.seed, MAX_IMAGES)
    labels = splits.train.labels[rows]
    weights = example_weights(splits.train, classes, task)[rows] if config.class_weights == "balanced" else None
    probed = network.model_before(layer_names.STANDARDISE)
    # All depths that the head may see come from the same pass.
    seen = depth_choice.widest(config, network, len(rows)) if len(rows) == len(splits.train) else network
    prefix = feature_cache.make_prefix(seen.model_before(layer_names.STANDARDISE))
    losses, table = [], []
    for framing in CANDIDATES:
        started = time.monotonic()
        part = sampling.part(splits.train, rows, framing)
        features = _features(prefix, part, network.size, cache)
        # The last depth stands last.
        features = features[:, -probed.output.shape[-1] :]
        given = labels, len(classes), task, config.seed, weights, part.groups
        found, accuracy = linear_probe.cross_validate(features, *given)
        if not len(found.losses):
            return FramingChoice(UNMEASURED, f"{folds.NO_FOLDS}, {LOSSLESS}", [])
        losses.append(found.losses)
        row = {"choice": framing, "loss": float(found.losses.mean())}
        row |= {} if accuracy is None else {"accuracy": accuracy}
        table.append(row | {"seconds": round(time.monotonic() - started, 3)})
    best = one_standard_error_rule(losses)
    return FramingChoice(CANDIDATES[best], _reason(best, losses, len(rows)), table)


def _missing_evidence(config: Config, network: Network, count: int) -> str:
    """Returns why nothing can be measured, in half a sentence; empty where it can."""
    if not network.pretrained:
        return "without pretrained weights nothing tells the framings apart"
    if config.preprocessing == "dataset":
        return "the pixel statistics of --preprocessing=dataset depend on the framing"
    if count < sampling.MIN_IMAGES:
        return f"{count} training images cannot tell the framings apart (needed: {sampling.MIN_IMAGES})"
    return ""


def say(choice: FramingChoice) -> None:
    """Prints what was chosen, and what was measured of each framing."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in choice.table]
    found = [
        f"{row.pop('choice')}: {', '.join(f'{k} {console.format_metric(v)}' for k, v in row.items())}" for row in rows
    ]
    console.say(f"framing: {choice.framing} ({'; '.join([choice.reason, *found])})")


def _features(prefix: Prefix, split: Split, size: int, cache: DiskCache) -> np.ndarray:
    """Returns pooled features, float32 [N, D], standardised over the split."""
    if feature_cache.count_bytes(prefix.model, split, "float32") <= disk_cache.available_bytes(cache):
        values = feature_cache.load_or_compute(cache, prefix, split, size).rows
    else:
        values = prefix.predict(pipeline.evaluation_stream(split, size=size, batch_size=_BATCH_SIZE))
    standardise = keras.layers.Normalization(axis=-1, dtype="float32")
    standardise.build(values.shape)
    head_statistics.set_statistics(standardise, np.asarray(values, np.float32))
    return keras.ops.convert_to_numpy(standardise(np.asarray(values, np.float32)))


def _reason(chosen: int, losses: list[np.ndarray], count: int) -> str:
    """Returns what the comparison of the probes' losses says, in half a sentence.

    Args:
        chosen: the place of the framing in `CANDIDATES`.
        losses: float64 [n] of each of them, paired.
        count: training images.
    """
    found = f"a probe on {count} training images, cross-validated"
    if not chosen:
        lowest = losses[0].mean() <= min(map(np.mean, losses))
        return f"{found}: the lowest loss" if lowest else f"{found}: no framing is measurably better"
    gap = losses[0] - losses[chosen]
    error = intervals.standard_error(gap)
    return f"{found}: the loss of crop is {console.format_metric(gap.mean())} higher, standard error {console.format_metric(error)}"
