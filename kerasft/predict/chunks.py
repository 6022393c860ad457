"""Finished chunks of a table that is being written. Each chunk is saved next to the table.

The name of a chunk's file has its index and a digest of the model and of the names, sizes and times of its images. So a
file with the right name is valid, whichever command has written it. A killed process loses at most one chunk.
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
from kerasft.predict.predictions import Model, Prediction, refuse_change
from kerasft.predict.sources import ImageFiles
from kerasft.predict.table_files import Chunk
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

# Images in a chunk: a multiple of `batches.BATCH_SIZE`, so that a resumed command makes the same batches.
CHUNK_SIZE = 512


def chunk_folder(out: Path) -> Path:
    """Returns the folder of a table's chunks."""
    return out.with_name(out.name + ".part")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Makes the folder and locks it against other processes. Removes it afterwards if it is empty.

    Raises:
        UserError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"--out: another process is writing this table. Received: '{folder.with_suffix('')}'") from None
    try:
        yield
        (folder / "lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    finally:
        lock.release()


def predict_chunks(folder: Path, model: Model, images: ImageFiles) -> tuple[list[Chunk], int]:
    """Predicts the missing chunks. Returns all chunks in order, and the number of images that were predicted now."""
    digest, names = model.digest(), images.names
    parts = [names[start : start + CHUNK_SIZE] for start in range(0, len(names), CHUNK_SIZE)]
    chunks = [(part, folder / _file_name(i, digest, images, part)) for i, part in enumerate(parts)]
    _remove_others(folder, {path for _, path in chunks})
    missing = [(part, path) for part, path in chunks if not table_files.is_complete(path, len(part))]
    todo = sum(len(part) for part, _ in missing)
    if todo < len(names):
        console.say(f"{len(names) - todo:,} of {len(names):,} are already done")
    todo_batches = (
        part[i : i + batches.BATCH_SIZE] for part, _ in missing for i in range(0, len(part), batches.BATCH_SIZE)
    )
    with (
        console.progress("predict", todo) as advance,
        closing(batches.predict_batches(model, images, todo_batches)) as predictions,
    ):
        for part, path in missing:
            rows: list[Prediction] = []
            while len(rows) < len(part):
                rows += (batch := next(predictions))
                advance(len(batch))
            refuse_change(model, digest)
            run_folder.write(path, lambda file, rows=rows: table_files.save_chunk(rows, file))
    return chunks, todo


def _file_name(index: int, model_digest: str, images: ImageFiles, names: list[str]) -> str:
    digest = hashlib.sha256(model_digest.encode())
    for name in names:
        try:
            stat = os.stat(images.folder / name)
            metadata = f"{stat.st_size} {stat.st_mtime_ns}"
        except (OSError, ValueError):
            metadata = "missing"
        digest.update(f"{name}\0{metadata}\0".encode("utf-8", "surrogateescape"))
    return f"{index:06d}-{digest.hexdigest()[:32]}.stretch"


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    """Removes chunks of another model or of other images, and incomplete files of a killed process."""
    others = [path for path in folder.iterdir() if re.fullmatch(r"\d{6,}-[0-9a-f]{32}\.stretch", path.name)]
    others = [path for path in others if path not in wanted]
    if others:
        console.say(
            f"{folder}: {len(others)} chunks belong to another model or to other images; they are predicted again"
        )
    for path in [*others, *folder.glob(".*.stretch.part")]:
        path.unlink()
