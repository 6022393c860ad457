"""The run folder: the settings of a run, its results, and the state from which it can be resumed."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from kerasft.settings import stored_config
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

# Files of a run. A folder with one of them has begun to train.
_RESULTS = ("checkpoint-0.npz", "checkpoint-1.npz", "settled.json", "metrics.json", "history.jsonl")
_RESULTS += ("predictions.npz", "report.html", "model.keras", "manifest.npz", "delta.npz")
_RESULTS += ("explain.html", "explain.json", "baseline.npz")
# Files that other commands make of the weights. They are removed with the weights. None of them tells that a run has begun.
_DERIVED = ("compress.html", "compress.json", "rebuilt.keras", "lr_find.html", "lr_find.json", "unlabelled.npz")
# The SavedModel that `--gate` refused is in this folder of the run.
UNPUBLISHED = "unpublished"
# Files of `write_settings`. They are written before anything is known to work.
_SETTINGS = ("config.json", "run.flags")
# Files of `run_lock`.
LOCK_FILES = (".lock", ".owner.json")
# How the name of a file ends until it is written.
_PARTIAL = ".part"


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """An empty folder in a run folder, which is removed at the end."""
    path = folder / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(path: Path, save: Callable[[BinaryIO], Any]) -> None:
    """Writes a file atomically: under a temporary name, flushed to disk, then renamed. One process at a time may write it.

    Raises:
        OSError: with the name of the file. The temporary file is removed, so a full disk does not get fuller.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_PARTIAL}")
    with _clean_up(temporary, path):
        with temporary.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def write_by_name(path: Path, save: Callable[[Path], Any]) -> None:
    """Writes as `write` does, for a `save` that takes a path and checks its suffix (`.keras`, `.weights.h5`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".part-{path.name}")
    with _clean_up(temporary, path):
        save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def _clean_up(temporary: Path, path: Path) -> Iterator[None]:
    """Removes the temporary file if the block fails, and adds the missing file name to an OSError."""
    try:
        yield
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def check_can_create(folder: Path) -> None:
    """Creates a folder and removes it again, so that an error comes before hours of training.

    Raises:
        OSError: the folder cannot be created, or is there and cannot be written.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    for path in created:
        # Another process may have written into it meanwhile.
        with suppress(OSError):
            path.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write(path, lambda file: file.write((json.dumps(value, indent=2) + "\n").encode()))


def write_figures(path: Path, value: Any) -> None:
    """Writes indented JSON atomically. A number that is not finite becomes null: JSON has no other name for it."""
    text = json.dumps(finite(value), indent=2, allow_nan=False)
    write(path, lambda file: file.write((text + "\n").encode()))


def finite(value: Any) -> Any:
    """Returns a value of JSON with None for each number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, *required: str) -> dict:
    """Reads a JSON object; empty where there is no file.

    Args:
        path: of the file.
        required: keys that the object must have.

    Raises:
        UserError: the file is damaged, or a key is missing.
    """
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
        fault = "no JSON object" if not isinstance(values, dict) else ", ".join(sorted({*required} - values.keys()))
    except ValueError as error:
        values, fault = {}, str(error)
    if fault:
        rule = f"{path.name} is damaged ({fault}); --noresume starts the run again"
        raise UserError(f"--run_dir: {rule}. Received: '{path}'")
    return values


def find(config: Config, name: str) -> tuple[Path, dict | None]:
    """Returns the run folder of a Config, and its metrics if the run is finished. Nothing is written.

    Args:
        config: the settings of the run.
        name: short name of the data, for the default `runs/NAME-DIGEST`.

    Raises:
        UserError: the folder holds a run with other settings, which are named; or a file in it is damaged.
    """
    folder = Path(config.run_dir or f"runs/{name}-{config.digest()}")
    stored = folder / "config.json"
    if stored.is_file():
        # Without results, the run ended with a mistake in the settings: other settings are welcome.
        has_begun = any((folder / result).is_file() for result in _RESULTS)
        if other := stored_config.differences(config, _read_settings(stored, config)) if has_begun else []:
            listed = "; ".join(other)
            raise UserError(f"--run_dir: holds another run ({listed}); name another folder. Received: '{folder}'")
        if config.resume:
            return folder, read_json(folder / "metrics.json") or None
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"--run_dir: is a file. Received: '{folder}'")
    elif is_occupied(folder):
        raise UserError(f"--run_dir: is no run folder and not empty; name another. Received: '{folder}'")
    return folder, None


def is_occupied(folder: Path, *allowed: str) -> bool:
    """Whether a folder that has to be empty is a file, or holds more than a killed process leaves before its first result.

    Args:
        folder: that need not exist.
        allowed: names of files and folders that do not count.
    """
    if not folder.is_dir():
        return folder.exists()
    allowed = (*allowed, *LOCK_FILES)
    return any(path.name not in allowed and not _is_partial(path) for path in folder.iterdir())


def _is_partial(path: Path) -> bool:
    """Whether a file is one that `write` had not finished."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def _read_settings(path: Path, config: Config) -> dict:
    """Reads the settings of the earlier run. Under `--noresume`, a damaged file counts as equal settings."""
    try:
        return read_json(path)
    except UserError:
        if config.resume:
            raise
        return json.loads(json.dumps(asdict(config)))


def open_folder(config: Config, name: str) -> tuple[Path, dict | None]:
    """Returns what `find` does, and prepares the folder of an unfinished run. `--noresume` empties it first.

    The caller must hold the lock of the folder (see `run_lock`).
    """
    folder, finished = find(config, name)
    if finished is not None:
        return folder, finished
    if not config.resume:
        for result in (*_RESULTS, *_DERIVED):
            (folder / result).unlink(missing_ok=True)
        for subfolder in ("tensorboard", "phases", "cache", "soup", "slim", UNPUBLISHED):
            shutil.rmtree(folder / subfolder, ignore_errors=True)
    # The page of `kerasft audit`: the run audits anew.
    (folder / "audit.html").unlink(missing_ok=True)
    write_settings(config, folder)
    return folder, None


def write_settings(config: Config, folder: Path) -> None:
    """Writes `config.json` and `run.flags`."""
    write_json(folder / "config.json", asdict(config))
    write(folder / "run.flags", lambda file: file.write(stored_config.to_flags(config).encode()))


def remove_unbegun(made: list[Path]) -> None:
    """Removes a run folder that holds nothing but settings, and the folders above it that were made for it.

    The caller must hold the lock of the folder.

    Args:
        made: the run folder, then those above it, without any that was there before.
    """
    if not (made and made[0].is_dir()):
        return
    files = list(made[0].iterdir())
    if {path.name for path in files}.issubset({*_SETTINGS, *LOCK_FILES}):
        for path in files:
            path.unlink()
        for path in made:
            # Another process may have written into it meanwhile.
            with suppress(OSError):
                path.rmdir()


class History:
    """`history.jsonl`: one line an epoch. A resumed run truncates it to the epochs of its checkpoint."""

    def __init__(self, path: Path, rows: int):
        self.path = path
        kept = path.read_text().splitlines()[:rows] if path.is_file() else []
        write(path, lambda file: file.write("".join(line + "\n" for line in kept).encode()))
        self.rows = len(kept)

    def add(self, row: dict) -> None:
        """Appends a row, and flushes it to disk."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise
        self.rows += 1
