"""What a phase trains and on what: the whole network on images, or its end on what the frozen part made of them."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft import augment
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits
from kerasft.evaluation import scoring
from kerasft.networks import surgery
from kerasft.networks.network import Network
from kerasft.optimization.distillation import Projection
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import CachedAugmentation
from kerasft.strategies import caching
from kerasft.strategies.phase import Phase


class PhaseInputs(NamedTuple):
    """What a phase trains.

    Attributes:
        model: the network, or its end.
        load: gives its inputs by round and row.
        outputs: gives its outputs on the validation images, float32 [N, ...], with the weights as they are.
        views: the number of cached augmentations; 0 for images.
        mixed: whether images are mixed with each other, and their labels become shares of classes.
        stateless: whether what is loaded depends on round and row only.
        evaluated: the model that `outputs` is of; it shares its layers with `model`.
        first_batch: gives its inputs for the first validation images.
        projection: where the model gives its features after the logits: from these features to a teacher's.
    """

    model: keras.Model
    load: pipeline.Load
    outputs: Callable[[], np.ndarray]
    views: int
    mixed: bool = False
    stateless: bool = True
    evaluated: keras.Model | None = None
    first_batch: Callable[[], tf.Tensor] | None = None
    projection: Projection | None = None


class Plan(NamedTuple):
    """How a phase is fed: the number of cached augmentations (0 for none) and their dtype, and why in words."""

    views: int
    dtype: str
    reason: str


def build(network: Network, splits: Splits, phase: Phase, seed: int, cache: DiskCache, plan: "Plan") -> PhaseInputs:
    """The inputs of a phase, as planned.

    Raises:
        UserError: the disk is full.
        feature_cache.RangeError: the plan's dtype does not hold the features.
    """
    if plan.views:
        return activations(network, splits, phase, seed, cache, plan)
    return images(network, splits, phase, seed)


def images(network: Network, splits: Splits, phase: Phase, seed: int) -> PhaseInputs:
    """Feeds the whole network, in training with images of the phase's size."""
    stream = pipeline.evaluation_stream(splits.val, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    layer = augment.build(phase.augment, network.task, len(splits.classes))
    model = surgery.resolution(network, phase.image_size or network.size).model
    load = pipeline.augmented_images(splits.train, network.size, layer, seed, phase.image_size)
    return PhaseInputs(
        model=model,
        load=load,
        outputs=validation_outputs(network, splits.val),
        views=0,
        mixed=bool(layer.mixes),
        stateless=layer.stateless,
        evaluated=network.model,
        first_batch=lambda: next(iter(stream)),
    )


def validation_outputs(network: Network, split: Split) -> Callable[[], np.ndarray]:
    """What gives the network's outputs on a split, float32 [N, ...], with the weights as they then are."""
    predict = scoring.make_predictor(network.model)
    stream = pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    return lambda: predict(stream)


def activations(network: Network, splits: Splits, phase: Phase, seed: int, cache: DiskCache, plan: Plan) -> PhaseInputs:
    """Feeds the end of the network with cached augmentations that are computed now, or were before.

    Raises:
        UserError: the disk is full.
        feature_cache.RangeError: the plan's dtype does not hold the activations.
    """
    front, end = caching.split_at_cut(network, phase)
    frozen = feature_cache.make_prefix(front)

    def entry(split, view: CachedAugmentation) -> np.ndarray:
        return feature_cache.load_or_compute(cache, frozen, split, network.size, view, plan.dtype).rows

    views = [feature_cache.UNAUGMENTED]
    if plan.views > 1:
        layer, recipe = augment.build(phase.augment), " | ".join(map(str, phase.augment))
        views = [CachedAugmentation(layer, recipe, seed, turn) for turn in range(plan.views)]
    train = [entry(splits.train, view) for view in views] if phase.epochs else []
    val, predict = entry(splits.val, feature_cache.UNAUGMENTED), scoring.make_predictor(end)
    dtype = end.inputs[0].dtype

    def outputs() -> np.ndarray:
        return predict(
            tf.cast(val[start : start + pipeline.EVALUATION_BATCH_SIZE], dtype)
            for start in range(0, len(val), pipeline.EVALUATION_BATCH_SIZE)
        )

    load = pipeline.cached_activations(train, dtype) if train else None
    first = val[: pipeline.EVALUATION_BATCH_SIZE]
    return PhaseInputs(
        end, load, outputs, plan.views, evaluated=end, first_batch=lambda: tf.cast(np.asarray(first), dtype)
    )


def plan(network: Network, splits: Splits, phase: Phase, cache: DiskCache, *, halved: bool = True) -> Plan:
    """Decides whether a phase is fed from the cache: where that is less work, and its augmentations fit on the disk.

    Args:
        halved: whether float16 may be stored for float32.

    Raises:
        UserError: the phase names a number of augmentations that cannot be.
    """
    halves, why = caching.cacheable_halves(network, phase)
    if halves is None:
        return Plan(0, "", why)
    wanted, at_best, fewest = (
        phase.views,
        caching.views_at_best(phase),
        min(caching.MIN_CACHED_AUGMENTATIONS, phase.epochs),
    )
    # Only augmentations whose number nobody named are as many as there is room for.
    is_fixed = bool(wanted) or at_best == 1
    free, count, others = disk_cache.available_bytes(cache), len(splits.train) if phase.epochs else 0, len(splits.val)
    for dtype in _dtypes(halves[0], splits, network.size, halved=halved):
        each = tf.as_dtype(dtype).size * math.prod(halves[0].output.shape[1:])
        chosen = at_best if is_fixed else min(at_best, (free // each - others) // count)
        needed = (chosen * count + others) * each
        if needed <= free and (is_fixed or chosen >= fewest):
            break
    else:
        if wanted:
            rule = f"{phase.strategy}(views={wanted}) needs {needed / 1e9:.3g} GB; there is room for {free / 1e9:.3g}"
            raise UserError(f"--cache_gb: {rule}. Received: {cache.max_bytes / 1e9:g}")
        return Plan(0, "", f"its activations would not fit into {free / 1e9:.3g} GB (--cache_gb, or the disk)")
    seen = "the images as they are" if chosen == 1 else f"{chosen} augmentations of the images"
    reason = f"what is frozen is computed once for {seen} ({needed / 1e6:,.1f} MB, {dtype})"
    # Whether the cache is kept must not matter: fixed augmentations teach something else than fresh ones.
    if wanted is None and phase.epochs:
        left = caching.work_ratio(network, halves[0], phase.epochs, chosen, count, others)
        if left > caching.MAX_WORK_RATIO:
            saving = f"{max(0.0, 1 - left):.0%} of the work"
            return Plan(0, "", f"{chosen} cached augmentations for {phase.epochs} epochs would save {saving}")
    return Plan(chosen, dtype, reason)


def _dtypes(front: keras.Model, splits: Splits, size: int, *, halved: bool) -> Iterator[str]:
    """The dtypes to store in, the exact one first; float16 where it holds a batch (`feature_cache` looks at all the others)."""
    yield front.output.dtype
    if halved and front.output.dtype == "float32":
        batch = pipeline.evaluation_stream(splits.val, size=size, batch_size=pipeline.EVALUATION_BATCH_SIZE).take(1)
        if feature_cache.can_store(scoring.make_predictor(front)(batch), "float16"):
            yield "float16"
