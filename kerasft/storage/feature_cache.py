"""The feature cache: activations of the frozen part of a network, computed once and stored on disk by a key.

An entry holds one cached augmentation of one split: a memory-mapped array of activations, in chunks of `CHUNK_ROWS` rows with
a checksum each. So a killed build goes on where it stopped, two runs that need the same entry build it once, and a
damaged byte costs one chunk.
"""

import hashlib
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock

from kerasft.augment import AUGMENT_VERSION, Augment
from kerasft.console import console
from kerasft.data import decode, pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, own_code, run_folder
from kerasft.storage.disk_cache import DiskCache

# A smaller dtype may change an activation by at most this share of the largest one.
MAX_ROUNDING_ERROR = 1e-3
# A chunk has so many rows, and one checksum.
CHUNK_ROWS = 1024
# Open memory maps, by file, dtype and shape.
_OPEN_MAPS: WeakValueDictionary = WeakValueDictionary()
# Settings of a layer of Keras that do not change what it computes in inference.
_TRAINING_ONLY = ("momentum", "rate", "seed")


class Prefix(NamedTuple):
    """The frozen beginning of a network.

    Attributes:
        model: images to activations.
        digest: of all that decides the activations of an image.
        predict: the predictor of the model, traced once for all entries.
    """

    model: keras.Model
    digest: str
    predict: scoring.Predictor


class CachedAugmentation(NamedTuple):
    """The images of a split, each augmented once.

    Attributes:
        augment: the augmentation; None for the images as they are.
        recipe: the Specs of the augmentation, as text.
        seed, round: decide the random numbers.
    """

    augment: Augment | None = None
    recipe: str = ""
    seed: int = 0
    round: int = 0


class Entry(NamedTuple):
    """An entry of the cache.

    Attributes:
        rows: activations [N, ...], memory-mapped.
        seconds: that computing them took, in this run or an earlier one.
        folder: of the entry.
    """

    rows: np.ndarray
    seconds: float
    folder: Path


UNAUGMENTED = CachedAugmentation()


class RangeError(Exception):
    """Raised for activations that a smaller dtype cannot store."""


def make_prefix(model: keras.Model) -> Prefix:
    """Makes a Prefix of a model. Its digest covers operations, connections, weights, the user's code and the decoder's version."""
    digest = hashlib.sha256(repr((tf.__version__, keras.__version__, decode.DECODER_VERSION)).encode())
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    # Other models may call the same layer; only the calls of this model count.
    calls = [[node for node in operation._inbound_nodes if id(node) in own] for operation in model.operations]
    places = {id(node): (row, call) for row, nodes in enumerate(calls) for call, node in enumerate(nodes)}

    def source(value: Any) -> Any:
        """Of an activation the operation, which of its calls, and which output of that."""
        if not isinstance(value, keras.KerasTensor):
            return value
        operation, node, output = value._keras_history
        return *places.get(id(operation._inbound_nodes[node]), ()), output

    for operation, nodes in zip(model.operations, calls, strict=True):
        arguments = keras.tree.flatten([(node.arguments.args, node.arguments.kwargs) for node in nodes])
        kind = f"{type(operation).__module__}.{type(operation).__qualname__}"
        _add(digest, (kind, _settings(operation), [source(value) for value in arguments]))
    _add(digest, [source(value) for value in model.outputs])
    _add(digest, model.get_weights())
    if sources := own_code.digests(model.operations):
        _add(digest, sources)
    return Prefix(model, digest.hexdigest(), scoring.make_predictor(model))


def _settings(operation: keras.Operation) -> dict[str, Any]:
    """The arguments that an operation was made with, without those of training only."""
    try:
        settings = operation.get_config()
    # Keras cannot serialise the arguments of some operations, such as a slice.
    except NotImplementedError:
        settings = vars(operation)
        settings = {name: value for name, value in settings.items() if not name.startswith("_") and not callable(value)}
    # What a layer from outside makes of a rate or a seed is not known.
    unused = _TRAINING_ONLY if type(operation).__module__.startswith("keras.") else ()
    return {name: value for name, value in settings.items() if name not in ("name", "trainable", *unused)}


def _add(digest: Any, value: Any) -> None:
    """Adds a value to a digest. Arrays are added in full, because their `repr` leaves out the middle."""
    if isinstance(value, dict):
        value = sorted(value.items(), key=repr)
    if isinstance(value, (list, tuple)):
        name = getattr(value, "KEY_NAME", type(value).__name__)
        digest.update(f"{name} {len(value)}".encode())
        for inner in value:
            _add(digest, inner)
    elif isinstance(value, (np.ndarray, tf.Tensor, keras.Variable)):
        array = np.ascontiguousarray(value)
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    else:
        digest.update(repr(value).encode())


def can_store(values: np.ndarray, dtype: str) -> bool:
    """Tells whether a dtype stores values with an error of at most `MAX_ROUNDING_ERROR` times the largest one."""
    with np.errstate(over="ignore"):
        # An overflow makes the error infinite.
        error = np.abs(values.astype(tf.as_dtype(dtype).as_numpy_dtype) - values).max()
    return bool(error <= MAX_ROUNDING_ERROR * np.abs(values).max())


def count_bytes(model: keras.Model, split: Split, dtype: str) -> int:
    """Returns the bytes of an entry."""
    return len(split) * int(np.prod(model.output.shape[1:])) * tf.as_dtype(dtype).size


def load_or_compute(
    cache: DiskCache,
    prefix: Prefix,
    split: Split,
    size: int,
    augmentation: CachedAugmentation = UNAUGMENTED,
    dtype: str = "",
    known: Entry | None = None,
) -> Entry:
    """Returns the activations of all images of a split, in order. Only what the cache lacks is computed.

    Args:
        cache: holds the entry.
        prefix: computes the activations.
        split: the images.
        size: side of the images in pixels.
        augmentation: of the images.
        dtype: of the stored activations; by default that of the output of the prefix.
        known: the activations where they are known already, such as some columns of another entry.

    Raises:
        UserError: the disk is full.
        RangeError: float16 cannot store the activations.
    """
    dtype = dtype or prefix.model.output.dtype
    with disk_cache.locked(cache, _entry_name(prefix, split, size, augmentation, dtype)) as folder:
        try:
            disk_cache.evict(cache, folder, count_bytes(prefix.model, split, dtype), disk_cache.ACTIVATIONS)
            return _fill(folder, prefix, split, size, augmentation, dtype, known)
        except OSError as error:
            raise UserError(
                f"--cache_gb: {folder} cannot be written ({error.strerror}); {disk_cache.WAYS_OUT}, "
                f"or give the phase views=0. Received: {cache.max_bytes / 1e9:g}"
            ) from error


def has(cache: DiskCache, prefix: Prefix, split: Split, size: int) -> bool:
    """Tells whether the cache has the activations of all unaugmented images of a split; arguments as `load_or_compute`."""
    folder = cache.folder / _entry_name(prefix, split, size, UNAUGMENTED, prefix.model.output.dtype)
    return len(disk_cache.read_meta(folder).get("crc32", {})) == -(-len(split) // CHUNK_ROWS)


def _entry_name(prefix: Prefix, split: Split, size: int, augmentation: CachedAugmentation, dtype: str) -> str:
    augmented = None
    if augmentation.augment:
        sources = own_code.digests([*own_code.named(augmentation.recipe), *augmentation.augment.layers])
        augmented = (AUGMENT_VERSION, augmentation.recipe, augmentation.seed, augmentation.round, *sources)
    key_parts = (prefix.digest, split.digest, size, split.framing, augmented, dtype)
    return hashlib.sha256(repr(key_parts).encode()).hexdigest()[:24]


def _fill(
    folder: Path,
    prefix: Prefix,
    split: Split,
    size: int,
    augmentation: CachedAugmentation,
    dtype: str,
    known: Entry | None,
) -> Entry:
    """Computes the chunks that are missing or damaged, and records each as soon as it is written."""
    model, meta = prefix.model, disk_cache.read_meta(folder)
    shape, kind = (len(split), *model.output.shape[1:]), tf.as_dtype(dtype).as_numpy_dtype
    checksums, seconds, place = (
        meta.get("crc32", {}),
        meta.get("seconds", known.seconds if known else 0.0),
        folder / disk_cache.ACTIVATIONS,
    )
    if not place.is_file() or place.stat().st_size != count_bytes(model, split, dtype):
        checksums = {}
        with place.open("wb") as file:
            file.truncate(count_bytes(model, split, dtype))
    rows = _open_map(place, kind, shape)
    starts = [
        start for start in range(0, len(split), CHUNK_ROWS) if checksums.get(str(start)) != _checksum(rows, start)
    ]
    if damaged := sum(str(start) in checksums for start in starts):
        console.say(f"cache: {damaged} damaged chunks of {place} are computed again")
    if not starts:
        # The time of the file says when the entry was last used.
        place.touch()
        return Entry(rows, seconds, folder)
    with console.progress("cache", len(split)) as advance, place.open("r+b") as file:
        for start in starts:
            began, span = time.monotonic(), range(start, min(start + CHUNK_ROWS, len(split)))
            augment = {"augment": augmentation.augment, "seed": augmentation.seed, "round": augmentation.round}
            stream = pipeline.evaluation_stream(
                split, size=size, batch_size=pipeline.EVALUATION_BATCH_SIZE, span=span, **augment
            )
            computed = known.rows[span.start : span.stop] if known else prefix.predict(stream)
            if dtype == "float16" and not can_store(computed, dtype):
                raise RangeError("float16 cannot store its activations")
            file.seek(start * (place.stat().st_size // len(split)))
            # The chunk is not written through the memory map: on a full disk, that would kill the process.
            file.write(computed.astype(kind).tobytes())
            # It is not synced to disk, which takes longer than computing it. A lost chunk fails its checksum.
            file.flush()
            checksums[str(start)], seconds = _checksum(rows, start), seconds + time.monotonic() - began
            disk_cache.write_meta(folder, {"shape": shape, "dtype": dtype, "seconds": seconds, "crc32": checksums})
            advance(len(span))
    return Entry(rows, seconds, folder)


def memoize(
    folder: Path | None, key_parts: Iterable[Any], compute: Callable[[], Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Returns what `compute` returns, and computes it only once: it is stored in the folder by a key.

    Args:
        folder: of the entry; None computes it each time.
        key_parts: what the result depends on: arrays, and other values by their repr.
        compute: returns arrays, numbers or texts by name. Numbers and texts come back as 0-dimensional arrays.
    """
    if folder is None:
        return {name: np.asarray(value) for name, value in compute().items()}
    digest = hashlib.sha256()
    _add(digest, tuple(key_parts))
    path = folder / f"{digest.hexdigest()[:24]}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    # Of several runs on one cache the first computes it, and the others wait.
    with FileLock(path.with_suffix(".lock"), thread_local=False):
        try:
            with path.open("rb") as file, np.load(file) as stored:
                return dict(stored)
        # Missing, or damaged: a zip archive has checksums.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            arrays = {name: np.asarray(value) for name, value in compute().items()}
            run_folder.write(path, lambda file: np.savez(file, **arrays))
            return arrays


def _open_map(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the file as an array. All users, such as the trials of a search, share one memory map."""
    key = (path, path.stat().st_ino, np.dtype(kind).str, shape)
    if (rows := _OPEN_MAPS.get(key)) is None:
        rows = _OPEN_MAPS[key] = np.memmap(path, kind, "r", shape=shape)
    return rows


def _checksum(rows: np.ndarray, start: int) -> int:
    return zlib.crc32(np.ascontiguousarray(rows[start : start + CHUNK_ROWS]).view(np.uint8).data)
