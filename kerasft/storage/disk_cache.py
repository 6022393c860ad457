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


class Store(NamedTuple):
    """Where entries are kept.

    Attributes:
        folder: one sub-folder an entry.
        limit: bytes that its entries may take together.
        kept: whether it outlives the run, and other runs use it too.
    """

    folder: Path
    limit: int
    kept: bool


def of(config: Config, run_folder: Path) -> Store:
    """The store of a run: its own, or under `--keep_cache` the one in `--cache_dir` that runs share."""
    folder = Path(config.cache_dir) if config.keep_cache else run_folder / "cache"
    return Store(folder, int(config.cache_gb * 1e9), config.keep_cache)


def remove(store: Store) -> None:
    """Removes a run's own store."""
    if not store.kept:
        shutil.rmtree(store.folder, ignore_errors=True)


def room(store: Store, kind: str = ACTIVATIONS) -> int:
    """Bytes that entries of a kind may take: what the limit leaves, and no more than the disk does.

    Raises:
        UserError: the folder cannot be made.
    """
    _make(store, store.folder)
    return int(min(_limit(store, kind), FREE_SHARE * shutil.disk_usage(store.folder).free))


@contextmanager
def locked(store: Store, name: str) -> Iterator[Path]:
    """The folder of an entry, which no other run writes meanwhile.

    Raises:
        UserError: it cannot be made.
    """
    folder = store.folder / name
    _make(store, folder)
    lock = FileLock(store.folder / f"{name}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.say(f"waiting for another run that writes {folder}")
        lock.acquire()
    try:
        yield folder
    finally:
        lock.release()


def make_room(store: Store, wanted: Path, needed: int, kind: str) -> None:
    """Removes the entries of a kind that were used longest ago, until one more fits; not those that a run writes."""
    files = sorted(store.folder.glob(f"*/{kind}"), key=lambda file: file.stat().st_mtime)
    files = [file for file in files if file.parent != wanted]
    total, limit = needed + sum(file.stat().st_size for file in files), _limit(store, kind)
    for file in files:
        if total <= limit:
            break
        try:
            with FileLock(store.folder / f"{file.parent.name}.lock", timeout=0):
                total -= file.stat().st_size
                shutil.rmtree(file.parent)
        except Timeout:
            continue


def _make(store: Store, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        flag = "--cache_dir" if store.kept else "--run_dir"
        raise UserError(f"{flag}: cannot be written ({error.strerror}). Received: '{store.folder}'") from error


def _limit(store: Store, kind: str) -> float:
    if kind == PICTURES:
        return PICTURES_SHARE * store.limit
    return store.limit - sum(file.stat().st_size for file in store.folder.glob(f"*/{PICTURES}"))


def about(folder: Path) -> dict:
    """What `about.json` says of an entry; nothing where it is missing or broken."""
    try:
        return json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return {}


def note(folder: Path, about: dict) -> None:
    """Writes `about.json`, whole or not at all."""
    temporary = folder / ".about.json.part"
    temporary.write_text(json.dumps(about))
    temporary.replace(folder / "about.json")
