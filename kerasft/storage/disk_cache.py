"""Where a run keeps what it computes once, and how much of the disk that may take."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from kerasft.console import console
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

ACTIVATIONS, PICTURES = "activations.bin", "pictures.bin"  # what an entry holds: of frozen layers; decoded
PICTURES_SHARE = 0.5  # of the limit, for decoded pictures; activations may take the rest
FREE_SHARE = 0.9  # of what is free on the disk


class DiskCache(NamedTuple):
    """Where entries are kept.

    Attributes:
        folder: one sub-folder an entry.
        limit: bytes that its entries may take together.
        kept: whether it outlives the run, and other runs use it too.
    """

    folder: Path
    limit: int
    kept: bool


def of(config: Config, run_folder: Path) -> DiskCache:
    """The store of a run: its own, or under `--keep_cache` the one in `--cache_dir` that runs share."""
    folder = Path(config.cache_dir) if config.keep_cache else run_folder / "cache"
    return DiskCache(folder, int(config.cache_gb * 1e9), config.keep_cache)


def remove(cache: DiskCache) -> None:
    """Removes a run's own store."""
    if not cache.kept:
        shutil.rmtree(cache.folder, ignore_errors=True)


def available_bytes(cache: DiskCache, kind: str = ACTIVATIONS) -> int:
    """Bytes that entries of a kind may take: what the limit leaves, and no more than the disk does.

    Raises:
        UserError: the folder cannot be made.
    """
    _make(cache, cache.folder)
    return int(min(_limit(cache, kind), FREE_SHARE * shutil.disk_usage(cache.folder).free))


@contextmanager
def locked(cache: DiskCache, name: str) -> Iterator[Path]:
    """The folder of an entry, which no other run writes meanwhile.

    Raises:
        UserError: it cannot be made.
    """
    folder = cache.folder / name
    _make(cache, folder)
    lock = FileLock(cache.folder / f"{name}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.say(f"waiting for another run that writes {folder}")
        lock.acquire()
    try:
        yield folder
    finally:
        lock.release()


def evict(cache: DiskCache, wanted: Path, needed: int, kind: str) -> None:
    """Removes the entries of a kind that were used longest ago, until one more fits; not those that a run writes."""
    files = sorted(cache.folder.glob(f"*/{kind}"), key=lambda file: file.stat().st_mtime)
    files = [file for file in files if file.parent != wanted]
    total, limit = needed + sum(file.stat().st_size for file in files), _limit(cache, kind)
    for file in files:
        if total <= limit:
            break
        try:
            with FileLock(cache.folder / f"{file.parent.name}.lock", timeout=0):
                total -= file.stat().st_size
                shutil.rmtree(file.parent)
        except Timeout:
            continue


def _make(cache: DiskCache, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        flag = "--cache_dir" if cache.kept else "--run_dir"
        raise UserError(f"{flag}: cannot be written ({error.strerror}). Received: '{cache.folder}'") from error


def _limit(cache: DiskCache, kind: str) -> float:
    if kind == PICTURES:
        return PICTURES_SHARE * cache.limit
    return cache.limit - sum(file.stat().st_size for file in cache.folder.glob(f"*/{PICTURES}"))


def read_meta(folder: Path) -> dict:
    """What `read_meta.json` says of an entry; nothing where it is missing or broken."""
    try:
        return json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return {}


def write_meta(folder: Path, read_meta: dict) -> None:
    """Writes `read_meta.json`, whole or not at all."""
    temporary = folder / ".about.json.part"
    temporary.write_text(json.dumps(read_meta))
    temporary.replace(folder / "about.json")
