"""The image cache: decoded images on disk, for data that do not fit into memory, and for later runs on the same files."""

import hashlib
import json
import math
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import tensorflow as tf

from kerasft.data import audit, decode
from kerasft.data.audit import DAMAGED, PixelStore
from kerasft.data.listing import Listing
from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache
from kerasft.storage.disk_cache import DiskCache

# The log of the rows that were stored after `about.json` was written: index, SHA-256, CRC-32, and (kind, detail) or null.
LOG_NAME = "pictures.jsonl"


@contextmanager
def open_pixel_store(listing: Listing, size: int, cache: DiskCache) -> Iterator[PixelStore | None]:
    """Yields the store for the images of a listing: on disk for a shared cache, else in memory, else on disk.

    Args:
        listing: before the audit.
        size: side of the images in pixels.
        cache: holds the store on disk.

    Yields:
        The store; None where the images fit nowhere, and have to be decoded each time.

    Raises:
        UserError: the disk is full.
    """
    needed_bytes = len(listing.ids) * size * size * 3
    fits_in_memory = audit.fits_in_memory(len(listing.ids), size)
    prefers_disk = cache.is_shared or not fits_in_memory
    if not prefers_disk or not 0 < needed_bytes <= disk_cache.available_bytes(cache, disk_cache.IMAGES):
        yield audit.make_memory_store(len(listing.ids), size) if fits_in_memory else None
        return
    key_parts = (tf.__version__, decode.DECODER_VERSION, size, listing.framing, listing.name, listing.ids.tolist())
    with disk_cache.locked(cache, hashlib.sha256(repr(key_parts).encode()).hexdigest()[:24]) as folder:
        disk_cache.evict(cache, folder, needed_bytes, disk_cache.IMAGES)
        empty = {"sha256": [""] * len(listing.ids), "crc32": [0] * len(listing.ids), "refused": {}, "damaged": {}}
        meta, log = empty | disk_cache.read_meta(folder), folder / LOG_NAME
        _replay_log(log, meta)
        with _open_log(log) as file:
            yield _make_disk_store(folder / disk_cache.IMAGES, meta, (len(listing.ids), size, size, 3), file)
        disk_cache.write_meta(folder, meta)
        log.unlink()
        # The time of the file says when the entry was last used.
        (folder / disk_cache.IMAGES).touch()


def _open_log(log: Path) -> TextIO:
    try:
        return log.open("a", buffering=1)
    except OSError as error:
        raise _disk_error(log, error) from error


def _replay_log(log: Path, meta: dict) -> None:
    """Adds the rows in the log of a killed audit. The last line may be truncated."""
    try:
        lines = log.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            _add_row(meta, *json.loads(line))
        except (ValueError, TypeError, IndexError):
            continue


def _add_row(meta: dict, index: int, digest: str, crc32: int, problem: list[str] | None) -> None:
    meta["sha256"][index], meta["crc32"][index] = digest, crc32
    is_damaged = problem is not None and problem[0] == DAMAGED
    for name, applies in (("refused", problem is not None and not is_damaged), ("damaged", is_damaged)):
        meta[name].pop(str(index), None)
        if applies:
            meta[name][str(index)] = problem


def _make_disk_store(path: Path, meta: dict, shape: tuple[int, ...], log: TextIO) -> PixelStore:
    """Returns a store in a file, one image a row, each with a checksum. A damaged row is decoded again.

    Args:
        path: of the file.
        meta: what is stored of the rows. It is updated.
        shape: [N, S, S, 3].
        log: gets each row as soon as it is stored, so a killed audit loses none.
    """
    lock, is_copied = threading.Lock(), False
    try:
        path.touch()
        os.truncate(path, math.prod(shape))
    except OSError as error:
        raise _disk_error(path, error) from error
    rows = np.memmap(path, np.uint8, "r", shape=shape)

    def lookup(index: int, digest: str) -> tuple[str, str] | tuple[()] | None:
        if meta["sha256"][index] != digest:
            return None
        if problem := meta["refused"].get(str(index)):
            return tuple(problem)
        is_intact = zlib.crc32(rows[index]) == meta["crc32"][index]
        return tuple(meta["damaged"].get(str(index), ())) if is_intact else None

    def put(index: int, digest: str, problem: tuple[str, str] | None, image: np.ndarray | None) -> None:
        nonlocal rows, is_copied
        with lock:
            try:
                if meta["sha256"][index] not in ("", digest) and not is_copied:
                    is_copied, rows = True, _replace_with_copy(path, shape)
                if image is not None:
                    # The image is not written through the memory map: on a full disk, that would kill the process.
                    with path.open("r+b") as file:
                        file.seek(index * image.nbytes)
                        file.write(image.data)
                row = (index, digest, 0 if image is None else zlib.crc32(image), problem and list(problem))
                _add_row(meta, *row)
                log.write(json.dumps(row) + "\n")
            except OSError as error:
                raise _disk_error(path, error) from error

    return PixelStore(lookup, put, lambda indices: rows[indices])


def _replace_with_copy(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Replaces a file by a copy before images in it change. A run that has mapped the old file keeps its images."""
    copy = path.with_name(f".{path.name}.part")
    shutil.copyfile(path, copy)
    copy.replace(path)
    return np.memmap(path, np.uint8, "r", shape=shape)


def _disk_error(path: Path, error: OSError) -> UserError:
    return UserError(f"--cache_gb: {path} cannot be written; {disk_cache.WAYS_OUT}. Received: {error.strerror}")
