"""The disk cache: the folder where a run keeps what it computes once, and the space that this may take."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage.waiting_lock import waiting_lock

# The file of an entry that holds activations of frozen layers, and the file of an entry that holds decoded images.
ACTIVATIONS, IMAGES = "activations.bin", "pictures.bin"
# Decoded images may take this share of the limit. Activations may take the rest.
MAX_IMAGES_SHARE = 0.5
# All entries may take this share of the free disk space.
MAX_FREE_SHARE = 0.9
# What is advised where the disk is full. A run that goes on may have its cache elsewhere.
WAYS_OUT = "free some space, or put the cache elsewhere with --keep_cache and --cache_dir"


class DiskCache(NamedTuple):
    """A folder of entries.

    Attributes:
        folder: holds one sub-folder for each entry.
        max_bytes: what all entries may take together.
        is_shared: whether other runs use the folder too, and it stays after the run.
    """

    folder: Path
    max_bytes: int
    is_shared: bool


def from_config(config: Config, run_folder: Path) -> DiskCache:
    """Returns the cache of a run: in its run folder, or under `--keep_cache` the shared one in `--cache_dir`."""
    folder = Path(config.cache_dir) if config.keep_cache else run_folder / "cache"
    return DiskCache(folder, int(config.cache_gb * 1e9), config.keep_cache)


def remove(cache: DiskCache) -> None:
    """Removes the cache of a single run."""
    if not cache.is_shared:
        shutil.rmtree(cache.folder, ignore_errors=True)


def available_bytes(cache: DiskCache, kind: str = ACTIVATIONS) -> int:
    """Returns the bytes that entries of a kind may take: within the limit, and within the free disk space.

    Raises:
        UserError: the folder cannot be made.
    """
    _make(cache, cache.folder)
    return int(min(_max_bytes(cache, kind), MAX_FREE_SHARE * shutil.disk_usage(cache.folder).free))


def spare_bytes(cache: DiskCache) -> int:
    """The bytes that one more entry of activations may take without another being removed. Raises as `available_bytes`."""
    held = sum(stat.st_size for stat in _files(cache, ACTIVATIONS).values())
    return min(available_bytes(cache), int(_max_bytes(cache, ACTIVATIONS)) - held)


@contextmanager
def locked(cache: DiskCache, name: str) -> Iterator[Path]:
    """Yields the folder of an entry, which no other run can write in the block.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = cache.folder / name
    _make(cache, cache.folder)
    with waiting_lock(cache.folder / f"{name}.lock", f"waiting for another run that writes {folder}"):
        # Another run may have removed the entry, to make room, until it had the lock.
        _make(cache, folder)
        yield folder


def evict(cache: DiskCache, entry: Path, needed_bytes: int, kind: str) -> None:
    """Removes the least recently used entries of a kind, until one more fits. An entry that a run writes is kept.

    Args:
        entry: the folder of the entry that needs space.
        needed_bytes: the space that it needs.
        kind: `ACTIVATIONS` or `IMAGES`.
    """
    files = sorted(_files(cache, kind).items(), key=lambda item: item[1].st_mtime)
    files = [(file, stat.st_size) for file, stat in files if file.parent != entry]
    total, limit = needed_bytes + sum(size for _, size in files), _max_bytes(cache, kind)
    for file, size in files:
        if total <= limit:
            break
        # Another run may have removed the entry by now.
        with suppress(Timeout), FileLock(cache.folder / f"{file.parent.name}.lock", timeout=0):
            with suppress(FileNotFoundError):
                shutil.rmtree(file.parent)
            total -= size


def _files(cache: DiskCache, kind: str) -> dict[Path, os.stat_result]:
    """Returns the files of a kind, without those that another run removes at this moment."""
    found = {}
    for file in cache.folder.glob(f"*/{kind}"):
        with suppress(FileNotFoundError):
            found[file] = file.stat()
    return found


def _make(cache: DiskCache, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        flag = "--cache_dir" if cache.is_shared else "--run_dir"
        raise UserError(f"{flag}: cannot be written ({error.strerror}). Received: '{cache.folder}'") from error


def _max_bytes(cache: DiskCache, kind: str) -> float:
    if kind == IMAGES:
        return MAX_IMAGES_SHARE * cache.max_bytes
    return cache.max_bytes - sum(stat.st_size for stat in _files(cache, IMAGES).values())


def read_meta(folder: Path) -> dict:
    """Returns the content of the `about.json` of an entry; empty where the file is missing or broken."""
    try:
        return json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return {}


def write_meta(folder: Path, meta: dict) -> None:
    """Writes the `about.json` of an entry atomically."""
    temporary = folder / ".about.json.part"
    temporary.write_text(json.dumps(meta))
    temporary.replace(folder / "about.json")
