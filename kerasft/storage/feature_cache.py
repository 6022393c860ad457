"""What the frozen part of a network makes of each picture, computed once and kept on disk under a digest of its causes.

An entry is one view of one split: a memory-mapped array of activations, in stretches of `CHUNK_ROWS` rows that are
checksummed one by one. So a build that was killed goes on where it stopped, two runs that want the same entry
build it once, and a byte that flipped on disk costs one stretch.
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

from kerasft.augment import AUGMENT_VERSION, Augment
from kerasft.console import console
from kerasft.data import decode, pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache, run_folder
from kerasft.storage.disk_cache import DiskCache

NIL = 1e-3  # of the largest activation: by which float16 may change one
CHUNK_ROWS = 1024  # rows with a checksum of their own
EVALUATION_BATCH = 64
_MAPS: WeakValueDictionary = WeakValueDictionary()
_TRAINING_ONLY = ("name", "trainable", "momentum", "rate", "seed")  # settings that say nothing of inference


class Prefix(NamedTuple):
    """The frozen beginning of a network.

    Attributes:
        model: pictures to activations.
        digest: of all that it does.
        predict: traced once for all entries.
    """

    model: keras.Model
    digest: str
    predict: scoring.Predictor


class CachedAugmentation(NamedTuple):
    """One view of a split's pictures: as they are (`augment` None), or augmented as in this round of this seed."""

    augment: Augment | None = None
    recipe: str = ""
    seed: int = 0
    round: int = 0


class Entry(NamedTuple):
    """Activations [N, ...], memory-mapped; the seconds that it took to compute them, now or before; and their folder."""

    rows: np.ndarray
    seconds: float
    folder: Path


UNAUGMENTED = CachedAugmentation()


class RangeError(Exception):
    """Activations that a smaller dtype does not hold."""


def prefix(model: keras.Model) -> Prefix:
    """A model as a Prefix; its digest is of operations, connections and weights, and of the version of the decoder."""
    digest = hashlib.sha256(repr((tf.__version__, keras.__version__, decode.DECODER_VERSION)).encode())
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    places = {operation.name: place for place, operation in enumerate(model.operations)}

    def source(value: Any) -> Any:
        return places.get(value._keras_history.operation.name) if isinstance(value, keras.KerasTensor) else value

    for operation in model.operations:
        # A layer that other models use too, such as the end of this network, has calls that are not of this one.
        calls = [node for node in operation._inbound_nodes if id(node) in own]
        arguments = keras.tree.flatten([(node.arguments.args, node.arguments.kwargs) for node in calls])
        kind = f"{type(operation).__module__}.{type(operation).__qualname__}"
        _add(digest, (kind, _settings(operation), [source(value) for value in arguments]))
    _add(digest, model.get_weights())
    return Prefix(model, digest.hexdigest(), scoring.predictor(model))


def _settings(operation: keras.Operation) -> dict[str, Any]:
    """What an operation was made with, but for what says nothing of inference."""
    try:
        settings = operation.get_config()
    except NotImplementedError:  # an operation, such as a slice, whose arguments Keras cannot write down
        settings = vars(operation)
        settings = {name: value for name, value in settings.items() if not name.startswith("_") and not callable(value)}
    return {name: value for name, value in settings.items() if name not in _TRAINING_ONLY}


def _add(digest: Any, value: Any) -> None:
    """Adds a value to a digest, arrays in full: their `repr` leaves out what is in the middle."""
    if isinstance(value, dict):
        value = sorted(value.items(), key=repr)
    if isinstance(value, (list, tuple)):
        digest.update(f"{type(value).__name__} {len(value)}".encode())
        for inner in value:
            _add(digest, inner)
    elif isinstance(value, (np.ndarray, tf.Tensor, keras.Variable)):
        array = np.ascontiguousarray(value)
        digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    else:
        digest.update(repr(value).encode())


def holds(values: np.ndarray, dtype: str) -> bool:
    """Whether a dtype stores values as good as exactly: within `NIL` of the largest one."""
    with np.errstate(over="ignore"):
        error = np.abs(values.astype(tf.as_dtype(dtype).as_numpy_dtype) - values).max()  # infinite where it overflows
    return bool(error <= NIL * np.abs(values).max())


def size_of(model: keras.Model, split: Split, dtype: str) -> int:
    """Bytes of an entry."""
    return len(split) * int(np.prod(model.output.shape[1:])) * tf.as_dtype(dtype).size


def activations(
    cache: DiskCache, prefix: Prefix, split: Split, size: int, view: CachedAugmentation = UNAUGMENTED, dtype: str = ""
) -> Entry:
    """What a prefix makes of a view of all pictures of a split, in order; from the cache as far as it is there.

    Args:
        size: side of the pictures.
        dtype: to store; by default that of the prefix's output.

    Raises:
        UserError: the disk is full.
        RangeError: float16 does not hold them.
    """
    dtype = dtype or prefix.model.output.dtype
    augmented = (AUGMENT_VERSION, view.recipe, view.seed, view.round) if view.augment else None
    key_parts = (prefix.digest, split.digest, size, augmented, dtype)
    with disk_cache.locked(cache, hashlib.sha256(repr(key_parts).encode()).hexdigest()[:24]) as folder:
        try:
            disk_cache.evict(cache, folder, size_of(prefix.model, split, dtype), disk_cache.ACTIVATIONS)
            return _filled(folder, prefix, split, size, view, dtype)
        except OSError as error:
            raise UserError(
                f"--cache_gb: {folder} cannot be written ({error.strerror}); free some space, name another --cache_dir, "
                f"or give the phase views=0. Received: {cache.limit / 1e9:g}"
            ) from error


def _filled(folder: Path, prefix: Prefix, split: Split, size: int, view: CachedAugmentation, dtype: str) -> Entry:
    """Computes the stretches that are missing or damaged, and notes each as soon as it is on disk."""
    model, read_meta = prefix.model, disk_cache.read_meta(folder)
    shape, kind = (len(split), *model.output.shape[1:]), tf.as_dtype(dtype).as_numpy_dtype
    sums, seconds, place = read_meta.get("crc32", {}), read_meta.get("seconds", 0.0), folder / disk_cache.ACTIVATIONS
    if not place.is_file() or place.stat().st_size != size_of(model, split, dtype):
        sums = {}
        with place.open("wb") as file:
            file.truncate(size_of(model, split, dtype))
    rows = _mapped(place, kind, shape)
    starts = [start for start in range(0, len(split), CHUNK_ROWS) if sums.get(str(start)) != _sum(rows, start)]
    if damaged := sum(str(start) in sums for start in starts):
        console.say(f"cache: {damaged} damaged stretches of {place} are computed again")
    if not starts:
        place.touch()  # used last now
        return Entry(rows, seconds, folder)
    with console.progress("cache", len(split)) as advance, place.open("r+b") as file:
        for start in starts:
            began, span = time.monotonic(), range(start, min(start + CHUNK_ROWS, len(split)))
            given = {"augment": view.augment, "seed": view.seed, "round": view.round, "span": span}
            found = prefix.predict(pipeline.evaluation_stream(split, size=size, batch_size=EVALUATION_BATCH, **given))
            if dtype == "float16" and not holds(found, dtype):
                raise RangeError("float16 does not hold its activations")
            file.seek(start * (place.stat().st_size // len(split)))
            file.write(found.astype(kind).tobytes())  # through a map, a full disk would end the process
            file.flush()  # not to the disk at once, which takes longer than computing it: the sums will tell
            sums[str(start)], seconds = _sum(rows, start), seconds + time.monotonic() - began
            disk_cache.write_meta(folder, {"shape": shape, "dtype": dtype, "seconds": seconds, "crc32": sums})
            advance(len(span))
    return Entry(rows, seconds, folder)


def memoize(
    folder: Path | None, key_parts: Iterable[Any], make: Callable[[], Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """What is made of an entry's rows, made once: kept in its folder, under a digest of its causes.

    Args:
        folder: of the entry; None where there is none, and it is made each time.
        key_parts: arrays, and other values by their repr.
        make: gives arrays, numbers or texts by name; 0-dimensional arrays come back for the latter.
    """
    if folder is None:
        return {name: np.asarray(value) for name, value in make().items()}
    digest = hashlib.sha256()
    _add(digest, tuple(key_parts))
    place = folder / f"{digest.hexdigest()[:24]}.npz"
    try:
        with place.open("rb") as file, np.load(file) as found:
            return dict(found)
    except (OSError, ValueError, zipfile.BadZipFile):  # not there, or damaged: a zip has checksums
        made = {name: np.asarray(value) for name, value in make().items()}
        run_folder.write(place, lambda file: np.savez(file, **made))
        return made


def _mapped(place: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The file as an array: one map for all who hold it, such as the trials of a search."""
    key = (place, place.stat().st_ino, np.dtype(kind).str, shape)
    if (rows := _MAPS.get(key)) is None:
        rows = _MAPS[key] = np.memmap(place, kind, "r", shape=shape)
    return rows


def _sum(rows: np.ndarray, start: int) -> int:
    return zlib.crc32(np.ascontiguousarray(rows[start : start + CHUNK_ROWS]).view(np.uint8).data)
