"""Stretches of a table that is being written, each kept beside it as soon as it is finished.

A stretch's file is named after its place and a digest of what it depends on: the model, and the names, sizes and times
of its files. So what is there and has the right name is right, whenever and by whatever command it was made; nothing
else has to be remembered, and a kill at any time costs one stretch.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kerasft.console import console
from kerasft.predict import batches, table_files
from kerasft.predict.predictions import Model, Prediction
from kerasft.predict.sources import Pictures
from kerasft.predict.table_files import Chunk
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

CHUNK_SIZE = 512  # pictures; a multiple of `batches.BATCH`, so that batches hold the same pictures whenever it goes on


def place(out: Path) -> Path:
    """The folder where the stretches of a table wait."""
    return out.with_name(out.name + ".part")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it; afterwards it is removed if nothing is in it.

    Raises:
        UserError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"--out: another process writes this table. Received: '{folder.with_suffix('')}'") from None
    try:
        yield
        (folder / "lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    finally:
        lock.release()


def fill(folder: Path, model: Model, pictures: Pictures) -> tuple[list[Chunk], int]:
    """Scores what is not there yet; all stretches in order, and how many pictures had to be scored."""
    digest, names = model.digest(), pictures.names
    parts = [names[start : start + CHUNK_SIZE] for start in range(0, len(names), CHUNK_SIZE)]
    chunks = [(part, folder / _name(i, digest, pictures, part)) for i, part in enumerate(parts)]
    _remove_others(folder, {path for _, path in chunks})
    missing = [(part, path) for part, path in chunks if not table_files.whole(path, len(part))]
    todo = sum(len(part) for part, _ in missing)
    if todo < len(names):
        console.say(f"{len(names) - todo:,} of {len(names):,} were done before")
    every = (part[i : i + batches.BATCH_SIZE] for part, _ in missing for i in range(0, len(part), batches.BATCH_SIZE))
    with console.progress("predict", todo) as advance, closing(batches.scored(model, pictures, every)) as answers:
        for part, path in missing:
            rows: list[Prediction] = []
            while len(rows) < len(part):
                rows += (found := next(answers))
                advance(len(found))
            if model.digest() != digest:
                raise UserError("--url: the server has another version of the model now; the same command starts over.")
            run_folder.write(path, lambda file, rows=rows: table_files.save(rows, file))
    return chunks, todo


def _name(index: int, digest: str, pictures: Pictures, names: list[str]) -> str:
    causes = hashlib.sha256(digest.encode())
    for name in names:
        try:
            found = os.stat(pictures.folder / name)
            metadata = f"{found.st_size} {found.st_mtime_ns}"
        except (OSError, ValueError):
            metadata = "missing"
        causes.update(f"{name}\0{metadata}\0".encode("utf-8", "surrogateescape"))
    return f"{index:06d}-{causes.hexdigest()[:32]}.stretch"


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    """Removes stretches that are of another model or of other pictures, and what was being written at a kill."""
    others = [path for path in folder.iterdir() if re.fullmatch(r"\d{6,}-[0-9a-f]{32}\.stretch", path.name)]
    others = [path for path in others if path not in wanted]
    if others:
        console.say(f"{folder}: {len(others)} parts are of another model or of other pictures: done again")
    for path in [*others, *folder.glob(".*.stretch.part")]:
        path.unlink()
