"""The run folder: what a run was asked, what it found, and the state from which it can go on."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from kerasft.settings.config import Config, differences
from kerasft.settings.errors import UserError

_RESULTS = ("checkpoint-0.npz", "checkpoint-1.npz", "settled.json", "metrics.json", "history.jsonl")
_RESULTS += ("predictions.npz", "report.html", "model.keras", "manifest.npz")
LOCK_FILES = (".lock", ".owner.json")  # see `locks`


def write(path: Path, save: Callable[[BinaryIO], Any]) -> None:
    """Writes a file whole or not at all: temporary name, flush to disk, rename.

    Raises:
        OSError: the file's name is in it, and the temporary file is gone, so that a full disk is no fuller.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with _whole(temporary, path):
        with temporary.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def write_by_name(path: Path, save: Callable[[Path], Any]) -> None:
    """As `write`, for a `save` that takes a path and insists on its ending (`.keras`, `.weights.h5`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{path.name}")
    with _whole(temporary, path):
        save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def _whole(temporary: Path, path: Path) -> Iterator[None]:
    """Removes the temporary file where the block fails, and gives an OSError the name that it lacks."""
    try:
        yield
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def try_to_make(folder: Path) -> None:
    """Makes a folder and takes it away again: one that cannot be made is told before anything else is done.

    Raises:
        OSError: it cannot.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        # Somebody else may have put something into it in between.
        with suppress(OSError):
            path.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, atomically."""
    write(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


def read_json(path: Path, *needed: str) -> dict:
    """What a JSON file holds; empty where there is none.

    Args:
        path: of the file.
        needed: keys that it must hold.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
        missing = "no JSON object" if not isinstance(found, dict) else ", ".join(sorted({*needed} - found.keys()))
    except ValueError as error:
        found, missing = {}, str(error)
    if missing:
        rule = f"{path.name} is damaged ({missing}); --noresume starts the run again"
        raise UserError(f"--run_dir: {rule}. Received: '{path}'")
    return found


def look(config: Config, name: str) -> tuple[Path, dict | None]:
    """The run folder of a Config, and its metrics where the run is finished. Nothing is written.

    Args:
        config: what the run is asked.
        name: short name of the data, for the default `runs/NAME-DIGEST`.

    Raises:
        UserError: the folder holds another run; the settings that differ are named. Or a file in it is damaged.
    """
    folder = Path(config.run_dir or f"runs/{name}-{config.digest()}")
    stored = folder / "config.json"
    if stored.is_file():
        begun = any((folder / part).is_file() for part in _RESULTS)  # else it ended with a mistake in the settings
        if other := differences(config, _stored(stored, config)) if begun else []:
            listed = "; ".join(other)
            raise UserError(f"--run_dir: holds another run ({listed}); name another folder. Received: '{folder}'")
        if config.resume:
            return folder, read_json(folder / "metrics.json") or None
    elif folder.is_dir() and any(path.name not in LOCK_FILES for path in folder.iterdir()):
        raise UserError(f"--run_dir: is no run folder and not empty; name another. Received: '{folder}'")
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"--run_dir: is a file. Received: '{folder}'")
    return folder, None


def _stored(path: Path, config: Config) -> dict:
    """The settings of the run before; under `--noresume` a damaged file is as good as the same ones."""
    try:
        return read_json(path)
    except UserError:
        if config.resume:
            raise
        return json.loads(json.dumps(asdict(config)))


def open_folder(config: Config, name: str) -> tuple[Path, dict | None]:
    """As `look`; a folder whose run is not finished is made ready, under `--noresume` without what is in it.

    Whoever calls it holds the folder's lock (see `locks`).
    """
    folder, finished = look(config, name)
    if finished is not None:
        return folder, finished
    if not config.resume:
        for part in _RESULTS:
            (folder / part).unlink(missing_ok=True)
        for part in ("tensorboard", "phases", "cache"):
            shutil.rmtree(folder / part, ignore_errors=True)
    write_json(folder / "config.json", asdict(config))
    write(folder / "run.flags", lambda file: file.write(config.to_flags().encode()))
    return folder, None


class History:
    """`history.jsonl`: one line an epoch, cut back to the saved state when a run goes on."""

    def __init__(self, path: Path, rows: int):
        self.path = path
        kept = path.read_text().splitlines()[:rows] if path.is_file() else []
        write(path, lambda file: file.write("".join(line + "\n" for line in kept).encode()))
        self.rows = len(kept)

    def add(self, row: dict) -> None:
        """Appends a row and flushes it to disk."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise
        self.rows += 1
