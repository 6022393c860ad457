"""Where training starts: the features' statistics, the head's first weights, and `--augment=auto` settled."""

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.augment import DEFAULT_AUGMENT
from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import depths, layer_names
from kerasft.networks.network import Network
from kerasft.probes import head_statistics, linear_probe
from kerasft.probes.linear_probe import Solution
from kerasft.probes.penalised_models import SoftTargets
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix
from kerasft.training import flip_check, forward_speed

# The features of fewer images take hardly more time than tracing the network, which says nothing of its speed.
MIN_IMAGES_TO_TIME = 1000

# From a split and a step (-1 mirrors the images) to features, seconds and the folder of the cache, see `_embedder`.
Embed = Callable[[Split, int], tuple[np.ndarray, float, Path | None]]


class Start(NamedTuple):
    """What `prepare` found.

    Attributes:
        solution: kernel [D, C] and bias [C] of the probe, where `--head_init` asks for it.
        augment: the `--augment` Spec, without `auto`.
        reason: why `--augment=auto` mirrors or does not; empty where it chose nothing.
        speed: images a second of a forward pass, where there was one.
        seconds: that it took.
    """

    solution: tuple[np.ndarray, np.ndarray] | None
    augment: str
    reason: str
    speed: float | None
    seconds: float


def prepare(
    config: Config,
    network: Network,
    splits: Splits,
    scorer: Scorer,
    cache: DiskCache,
    weights: np.ndarray | None = None,
    *,
    soft_targets: SoftTargets | None = None,
    solution: Solution | None = None,
    augmented: bool = True,
    automatic: bool = False,
    head_first: bool = False,
) -> Start:
    """Sets a `prior` and the statistics of targets and pretrained features, where asked; solves the probe.

    The probe also tells whether mirroring is harmless (`flip_check.verdict`); without one there is no mirroring.

    Args:
        scorer: of the validation split.
        cache: keeps the features.
        weights: float [N] of the training examples, or None.
        soft_targets: what a teacher answers to them, or None.
        solution: of the probe, where it is known already.
        augmented: whether any phase trains on augmented images.
        automatic: whether any of them has `augment=auto` of its own.
        head_first: whether the first phase trains the head alone, and is judged by features.
    """
    started = time.monotonic()
    automatic = augmented and (automatic or config.augment.strip() == "auto")
    solved, speed = solution, None
    mirrored, reason = False, "no pretrained features tell whether it is harmless" if automatic else ""
    recipe = DEFAULT_AUGMENT if automatic else config.augment if augmented else "none"
    _set_label_statistics(network, splits.train.labels)
    if network.pretrained or network.head_init == "probe":
        prefix = feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
        embed = _embedder(network, prefix, cache)
        inputs, seconds, folder = embed(splits.train, 1)
        speed = _images_per_second(network, prefix, len(inputs), seconds)
        if head_first:
            # Into the cache, while the graph is at hand.
            embed(splits.val, 1)
        if network.head_init == "probe" or automatic:
            given = _arguments_of_probe(config, network, splits, inputs, weights, soft_targets)
            key_parts = *given, linear_probe.SOLVER_VERSION, version("scipy"), version("scikit-learn")
            if solved is None:
                found = feature_cache.memoize(folder, key_parts, lambda: linear_probe.solve(*given)._asdict())
                solved = Solution(found["kernel"], found["bias"], str(found["penalty"]))
            kind = "ridge" if network.task == "regression" else "logistic"
            console.say(f"probe: {kind} regression on {inputs.shape[1]} features, {solved.penalty}")
        if automatic:
            parts = *key_parts, solved.kernel, solved.bias, splits.val.digest
            answers = feature_cache.memoize(folder, parts, lambda: _flipped_answers(network, splits.val, embed, solved))
            mirrored, reason = _check_flip(network, splits, scorer, answers, weights)
    if automatic:
        recipe += " | flip" if mirrored else ""
        console.say(
            f"augmentation: {recipe} ({reason})" if mirrored else f"augmentation: {recipe}, no mirroring: {reason}"
        )
    start = (solved.kernel, solved.bias) if solved and network.head_init == "probe" else None
    return Start(start, recipe, reason, speed, time.monotonic() - started)


def _set_label_statistics(network: Network, labels: np.ndarray) -> None:
    """Sets the statistics of targets, and a `prior`, where the network asks for them."""
    if network.task == "regression":
        head_statistics.set_statistics(network.model.get_layer(layer_names.VALUES), labels)
    if network.head_init == "prior":
        head_statistics.set_prior(network.model.get_layer(layer_names.LOGITS), labels, network.task)


def _images_per_second(network: Network, prefix: Prefix, count: int, seconds: float) -> float:
    """Images a second of the forward pass that took so long; of few images it is timed anew."""
    if count >= MIN_IMAGES_TO_TIME:
        return count / seconds
    return forward_speed.measure(prefix.predict, network.size, 0.0, min(forward_speed.BATCH_SIZE, count))


def _arguments_of_probe(
    config: Config,
    network: Network,
    splits: Splits,
    inputs: np.ndarray,
    weights: np.ndarray | None,
    soft_targets: SoftTargets | None,
) -> tuple[Any, ...]:
    """The arguments of `linear_probe.solve`. They are part of a cache key, so what is None at the end is left out."""
    groups = splits.train.groups
    also = (soft_targets, groups) if groups is not None else (soft_targets,) if soft_targets else ()
    return inputs, splits.train.labels, len(splits.classes), network.task, config.seed, weights, *also


def _flipped_answers(network: Network, split: Split, embed: Embed, solved: Solution) -> dict[str, np.ndarray]:
    """The probe's outputs for the images of a split: `plain`, as they are, and `mirrored`."""
    ends = [embed(split, step)[0] @ solved.kernel + solved.bias for step in (1, -1)]
    return dict(zip(("plain", "mirrored"), (_outputs(network, end) for end in ends)))


def _check_flip(
    network: Network, splits: Splits, scorer: Scorer, answers: dict[str, np.ndarray], weights: np.ndarray | None
) -> tuple[bool, str]:
    """Whether images may be mirrored, and why; by `flip_check.verdict` on the answers of the probe."""
    labels = splits.train.labels
    constant = head_statistics.constant(labels, len(splits.classes), network.task, weights)
    return flip_check.verdict(scorer, answers["plain"], answers["mirrored"], labels, constant, splits.classes)


def pixel_statistics(split: Split, size: int) -> tuple[list[float], list[float]]:
    """Mean and variance by channel over all pixels of a split, for `--preprocessing=dataset`."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for images in pipeline.evaluation_stream(split, size=size, batch_size=pipeline.EVALUATION_BATCH_SIZE):
        pixels = images.numpy().reshape(-1, 3).astype(np.float64)
        total, squares, count = total + pixels.sum(0), squares + np.square(pixels).sum(0), count + len(pixels)
    mean = total / count
    return mean.tolist(), (squares / count - np.square(mean)).tolist()


def _outputs(network: Network, logits: np.ndarray) -> np.ndarray:
    """What the network makes of its last dense layer's outputs."""
    if network.task != "regression":
        return logits
    return keras.ops.convert_to_numpy(network.model.get_layer(layer_names.VALUES)(logits))


def _embedder(network: Network, prefix: Prefix, cache: DiskCache) -> Embed:
    """A function (split, step) to what reaches the last layer, float32 [N, D], the seconds that took, and its cache's folder.

    The prefix is the network before its `standardise` layer.

    Step -1 mirrors the images. Its first call sets the statistics of the `standardise` layer.
    """
    head = network.head_layers()
    standardise, widths = head[0], depths.widths(network)
    fitted = False

    def embed(split: Split, step: int) -> tuple[np.ndarray, float, Path | None]:
        nonlocal fitted
        folder = None
        if step == 1 and feature_cache.count_bytes(prefix.model, split, "float32") <= disk_cache.available_bytes(cache):
            values, seconds, folder = feature_cache.load_or_compute(cache, prefix, split, network.size)
        else:
            started = time.monotonic()
            batches = pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
            values = prefix.predict(batches.map(lambda images: images[:, :, ::step]))
            seconds = time.monotonic() - started
        if not fitted:
            head_statistics.set_statistics(standardise, values, widths)
            fitted = True
        for layer in head[:-1]:
            values = layer(values, training=False)
        return keras.ops.convert_to_numpy(values), seconds, folder

    return embed
