"""Where training starts: the features' statistics, the head's first weights, and `--augment=auto` settled."""

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import depths, layer_names
from kerasft.networks.network import Network
from kerasft.probes import head_statistics, linear_probe
from kerasft.probes.linear_probe import Solution
from kerasft.probes.penalised_models import Taught
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import Prefix
from kerasft.training import flip_check, forward_speed

DEFAULT_AUGMENT = "crop(area=(0.35, 1))"  # of --augment=auto; with flip where mirroring is shown to be harmless

# The features of fewer images take hardly more time than tracing the network, which says nothing of its speed.
MIN_IMAGES_TO_TIME = 1000


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
    taught: Taught | None = None,
    solution: Solution | None = None,
    augmented: bool = True,
    head_first: bool = False,
) -> Start:
    """Sets a `prior` and the statistics of targets and pretrained features, where asked; solves the probe.

    The probe also tells whether mirroring is harmless (`flip_check.verdict`); without one there is no mirroring.

    Args:
        scorer: of the validation split.
        cache: keeps the features.
        weights: float [N] of the training examples, or None.
        taught: what a teacher answers to them, or None.
        solution: of the probe, where it is known already.
        augmented: whether any phase trains on augmented images.
        head_first: whether the first phase trains the head alone, and is judged by features.
    """
    started = time.monotonic()
    automatic = config.augment.strip() == "auto" and augmented
    solved, speed = solution, None
    mirrored, reason = False, "no pretrained features tell whether it is harmless" if automatic else ""
    recipe = DEFAULT_AUGMENT if automatic else config.augment if augmented else "none"
    labels = splits.train.labels
    if network.task == "regression":
        head_statistics.set_statistics(network.model.get_layer(layer_names.VALUES), labels)
    if network.head_init == "prior":
        head_statistics.set_prior(network.model.get_layer(layer_names.LOGITS), labels, network.task)
    if network.pretrained or network.head_init == "probe":
        prefix = feature_cache.make_prefix(network.model_before(layer_names.STANDARDISE))
        embed = _embedder(network, prefix, cache)
        inputs, seconds, folder = embed(splits.train, 1)
        speed = len(inputs) / seconds
        if len(inputs) < MIN_IMAGES_TO_TIME:
            batch_size = min(forward_speed.BATCH_SIZE, len(inputs))
            speed = forward_speed.measure(prefix.predict, network.size, 0.0, batch_size)
        if head_first:
            embed(splits.val, 1)  # into the cache, while the graph is at hand
        if network.head_init == "probe" or automatic:
            groups = splits.train.groups
            also = (taught, groups) if groups is not None else (taught,) if taught else ()
            given = inputs, labels, len(splits.classes), network.task, config.seed, weights, *also
            key_parts = *given, linear_probe.SOLVER_VERSION, version("scipy")
            if solved is None:
                found = feature_cache.memoize(folder, key_parts, lambda: linear_probe.solve(*given)._asdict())
                solved = Solution(found["kernel"], found["bias"], str(found["penalty"]))
            kind = "ridge" if network.task == "regression" else "logistic"
            console.say(f"probe: {kind} regression on {inputs.shape[1]} features, {solved.penalty}")
        if automatic:

            def answers() -> dict[str, np.ndarray]:
                """The probe's outputs for the validation images, as they are and mirrored."""
                ends = [embed(splits.val, step)[0] @ solved.kernel + solved.bias for step in (1, -1)]
                return dict(zip(("plain", "mirrored"), (_outputs(network, end) for end in ends)))

            parts = *key_parts, solved.kernel, solved.bias, splits.val.digest
            found = feature_cache.memoize(folder, parts, answers)
            constant = head_statistics.constant(labels, len(splits.classes), network.task, weights)
            seen = scorer, found["plain"], found["mirrored"], labels, constant, splits.classes
            mirrored, reason = flip_check.verdict(*seen)
    if automatic:
        recipe += " | flip" if mirrored else ""
        console.say(
            f"augmentation: {recipe} ({reason})" if mirrored else f"augmentation: {recipe}, no mirroring: {reason}"
        )
    start = (solved.kernel, solved.bias) if solved and network.head_init == "probe" else None
    return Start(start, recipe, reason, speed, time.monotonic() - started)


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


def _embedder(
    network: Network, prefix: Prefix, cache: DiskCache
) -> Callable[[Split, int], tuple[np.ndarray, float, Path | None]]:
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
