"""Whether a phase is fed from the cache: what of the network it leaves frozen, and the work that is saved if that is computed once."""

import math

import keras
import numpy as np

from kerasft import augment
from kerasft.networks import depths, layer_names
from kerasft.networks.multiplications import MULTIPLICATIONS_PER_STEP, forward_work
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError
from kerasft.strategies import freezing
from kerasft.strategies.phase import Phase

# The work without a cache has to come down to this share of it.
MAX_WORK_RATIO = 0.8
# Fewer augmentations of an image are soon learned by heart.
MIN_CACHED_AUGMENTATIONS = 4
# Each cached augmentation is seen in at most so many epochs, where the disk has room.
EPOCHS_PER_CACHED_AUGMENTATION = 4


def cached_views(network: Network, phase: Phase, train: int, val: int) -> int:
    """The number of augmentations that a phase caches where the disk has room for them; 0 for images.

    Args:
        train, val: numbers of images in these splits.

    Raises:
        UserError: as `cacheable_halves`.
    """
    halves, _ = cacheable_halves(network, phase)
    return views_of_half(network, halves[0], phase, train, val) if halves else 0


def views_of_half(network: Network, front: keras.Model, phase: Phase, train: int, val: int) -> int:
    """What `cached_views` gives of a phase, by the half of the network that it can cache."""
    views = views_at_best(phase)
    if phase.views is None and phase.epochs:
        left = work_ratio(network, front, phase.epochs, views, train, val)
        return 0 if left > MAX_WORK_RATIO else views
    return views


def cacheable_halves(network: Network, phase: Phase) -> tuple[tuple[keras.Model, keras.Model] | None, str]:
    """What `split_at_cut` gives where the first half can be cached; else None and the reason.

    Raises:
        UserError: the phase names a number of augmentations that cannot be.
    """
    wanted = phase.views
    if phase.image_size not in (None, network.size):
        if wanted:
            rule = f"{phase.strategy}(views={wanted}) is for images of {network.size} pixels; leave it or image_size="
            raise UserError(f"--phases: {rule}. Received: '{phase}'")
        return None, f"it trains on images of {phase.image_size} pixels"
    halves = None if wanted == 0 else split_at_cut(network, phase)
    if halves is None:
        return None, "views=0" if wanted == 0 else "nothing is frozen"
    layer = augment.build(phase.augment, network.task, network.model.output_shape[-1])
    if (layer.mixes or not layer.stateless) and wanted != 1 and phase.epochs:
        why = "mixes images" if layer.mixes else "is Keras's and draws numbers of its own"
        if wanted:
            rule = f"{phase.strategy}(views={wanted}) is not possible: its augmentation {why}"
            raise UserError(f"--phases: {rule}. Received: '{phase}'")
        return None, f"its augmentation {why}"
    return halves, ""


def views_at_best(phase: Phase) -> int:
    """The number of augmentations that a cacheable phase caches where the disk has room: its `views`, or by its epochs."""
    if phase.views == 1 or not phase.augment or not phase.epochs:
        return 1
    fewest = min(MIN_CACHED_AUGMENTATIONS, phase.epochs)
    return phase.views or max(fewest, math.ceil(phase.epochs / EPOCHS_PER_CACHED_AUGMENTATION))


def work_ratio(network: Network, front: keras.Model, epochs: int, views: int, train: int, val: int) -> float:
    """The work of a phase with a cache, as a share of its work without one."""
    share, step = forward_work(front) / forward_work(network.model), MULTIPLICATIONS_PER_STEP
    ahead, behind = share * (views * train + val), epochs * (1 - share) * (step * train + val)
    return (ahead + behind) / (epochs * (share + step * (1 - share)) * train + epochs * val)


def split_at_cut(network: Network, phase: Phase) -> tuple[keras.Model, keras.Model] | None:
    """The frozen beginning of the network as far as a phase leaves it, and the rest; None where all is trained.

    They share the network's layers. Where the head's pooling has nothing to train, it is in the first half. Where the
    head sees depths before the cut, the first half gives them after the activations, in one row an image.
    """
    first = freezing.first_layer(network, phase)
    images, output = network.model.inputs[0], network.model.output
    if first is None:
        pooling = network.model.get_layer(layer_names.FEATURES)
        end = pooling.input if pooling.weights else pooling.output
        return keras.Model(images, end), keras.Model(end, output)
    before = network.backbone[: network.backbone.index(first)]
    cut = next((name for name in reversed(before) if name in network.cuts), None)
    operations = {operation.name: operation for operation in network.model.operations}
    if cut is None or not any(_holds_kernel(operations[name]) for name in before):
        return None
    end, pooled = operations[cut].output, depths.early(network, cut)
    if not pooled:
        return keras.Model(images, end), keras.Model(end, output)
    rows = keras.layers.Concatenate(dtype="float32")([keras.ops.reshape(end, (-1, math.prod(end.shape[1:]))), *pooled])
    return keras.Model(images, rows), _end_of_rows([end, *pooled], output)


def _holds_kernel(operation: keras.Operation) -> bool:
    """Whether an operation multiplies by weights of two or more dimensions: not a normalisation, or a range of 8 bits."""
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def _end_of_rows(tensors: list[keras.KerasTensor], output: keras.KerasTensor) -> keras.Model:
    """The model from some tensors to an output, whose one input holds them in one row an image. It shares their layers."""
    widths = [math.prod(tensor.shape[1:]) for tensor in tensors]
    rows = keras.Input((sum(widths),), name="rows")
    starts = np.cumsum([0, *widths])
    parts = [rows[:, start : start + width] for start, width in zip(starts.tolist(), widths)]
    inputs = [
        keras.ops.cast(keras.ops.reshape(part, (-1, *tensor.shape[1:])), tensor.dtype)
        for part, tensor in zip(parts, tensors)
    ]
    # What `keras.models.clone_model` does; that takes tensors of an InputLayer only.
    return keras.Model(rows, keras.Model(tensors, output)._run_through_graph(inputs, lambda operation: operation))
