"""Decoded pictures on disk: of a set that does not fit into memory, or for later runs, which then only look whether a file has changed."""

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

LOG = "pictures.jsonl"  # of the rows that came since `about.json` was written: index, SHA-256, CRC-32, reason


@contextmanager
def pixel_store(listing: Listing, size: int, cache: DiskCache) -> Iterator[PixelStore | None]:
    """Where the audit puts the pictures of a listing: on disk if they are kept, else in memory if they fit, else on disk if they do.

    Args:
        listing: before the audit.
        size: side in pixels.

    Yields:
        None where they fit nowhere: they are then decoded each time.

    Raises:
        UserError: the disk is full.
    """
    needed = len(listing.ids) * size * size * 3
    fits = audit.fits(len(listing.ids), size)
    if not (cache.kept or not fits) or not 0 < needed <= disk_cache.available_bytes(cache, disk_cache.PICTURES):
        yield audit.in_memory(len(listing.ids), size) if fits else None
        return
    key_parts = (tf.__version__, decode.DECODER_VERSION, size, listing.name, listing.ids.tolist())
    with disk_cache.locked(cache, hashlib.sha256(repr(key_parts).encode()).hexdigest()[:24]) as folder:
        disk_cache.evict(cache, folder, needed, disk_cache.PICTURES)
        empty = {"sha256": [""] * len(listing.ids), "crc32": [0] * len(listing.ids), "refused": {}, "damaged": {}}
        read_meta, log = empty | disk_cache.read_meta(folder), folder / LOG
        _replay(log, read_meta)
        with _opened(log) as file:
            yield _on_disk(folder / disk_cache.PICTURES, read_meta, (len(listing.ids), size, size, 3), file)
        disk_cache.write_meta(folder, read_meta)
        log.unlink()
        (folder / disk_cache.PICTURES).touch()  # used last now


def _opened(log: Path) -> TextIO:
    try:
        return log.open("a", buffering=1)
    except OSError as error:
        raise _full(log, error) from error


def _replay(log: Path, read_meta: dict) -> None:
    """Adds to what is known of the rows what an audit that was killed has noted; its last line may be cut."""
    try:
        lines = log.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            _note(read_meta, *json.loads(line))
        except (ValueError, TypeError, IndexError):
            continue


def _note(read_meta: dict, index: int, digest: str, crc32: int, reason: list[str] | None) -> None:
    read_meta["sha256"][index], read_meta["crc32"][index] = digest, crc32
    for name, holds in (("refused", reason and reason[0] != DAMAGED), ("damaged", reason and reason[0] == DAMAGED)):
        read_meta[name].pop(str(index), None)
        if holds:
            read_meta[name][str(index)] = reason


def _on_disk(place: Path, read_meta: dict, shape: tuple[int, ...], log: TextIO) -> PixelStore:
    """Pictures in a file, one a row, each with a checksum: a row that is not that of its file's bytes is decoded again.

    Args:
        read_meta: what is known of the rows; it is added to.
        shape: [N, S, S, 3].
        log: where each row is noted as soon as it is there, so that an audit that is killed loses none.
    """
    lock, alone = threading.Lock(), False
    try:
        place.touch()
        os.truncate(place, math.prod(shape))
    except OSError as error:
        raise _full(place, error) from error
    rows = np.memmap(place, np.uint8, "r", shape=shape)

    def known(index: int, digest: str) -> tuple[str, str] | tuple[()] | None:
        if read_meta["sha256"][index] != digest:
            return None
        if reason := read_meta["refused"].get(str(index)):
            return tuple(reason)
        whole = zlib.crc32(rows[index]) == read_meta["crc32"][index]
        return tuple(read_meta["damaged"].get(str(index), ())) if whole else None

    def put(index: int, digest: str, reason: tuple[str, str] | None, picture: np.ndarray | None) -> None:
        nonlocal rows, alone
        with lock:
            try:
                if read_meta["sha256"][index] not in ("", digest) and not alone:
                    alone, rows = True, _apart(place, shape)
                if picture is not None:
                    with place.open("r+b") as file:  # through a map, a full disk would end the process
                        file.seek(index * picture.nbytes)
                        file.write(picture.data)
                row = (index, digest, 0 if picture is None else zlib.crc32(picture), reason and list(reason))
                _note(read_meta, *row)
                log.write(json.dumps(row) + "\n")
            except OSError as error:
                raise _full(place, error) from error

    return PixelStore(known, put, lambda wanted: rows[wanted])


def _apart(place: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Puts a copy in the place of a file whose pictures change: a run that has mapped it keeps what it was audited with."""
    copy = place.with_name(f".{place.name}.part")
    shutil.copyfile(place, copy)
    copy.replace(place)
    return np.memmap(place, np.uint8, "r", shape=shape)


def _full(place: Path, error: OSError) -> UserError:
    rule = "free some space, or name another --cache_dir"
    return UserError(f"--cache_gb: {place} cannot be written; {rule}. Received: {error.strerror}")
