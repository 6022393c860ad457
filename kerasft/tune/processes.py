"""The processes of one search, KerasTuner's chief and workers: what they have in common, and how one misses another."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from kerasft.console import console
from kerasft.data.splits import Splits
from kerasft.settings import stored_config
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.storage.waiting_lock import waiting_lock

VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
# A chief writes the file before it builds a network.
WAIT_SECONDS = 600.0
SPLITS = "splits.json"


def role() -> str:
    """Returns `chief` or `worker` as KerasTuner's environment says, else `alone`."""
    present = [name for name in VARIABLES if os.environ.get(name)]
    if present and len(present) < len(VARIABLES):
        missing = ", ".join(name for name in VARIABLES if name not in present)
        raise UserError(f"--mode=tune: {present[0]} is set, so {missing} must be set too. Received: ''")
    if not present:
        return "alone"
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def describe(config: Config, options: dict[str, str]) -> dict[str, Any]:
    """Returns the contents of `search.json`."""
    return {"config": asdict(config), **options}


def differences(config: Config, options: dict[str, str], stored: dict[str, Any]) -> list[str]:
    """Returns `name: then, now` of each setting that differs from a `search.json`."""
    changed = stored_config.differences(config, stored["config"])
    return changed + [
        f"{name}: {stored.get(name)!r} then, {value!r} now"
        for name, value in options.items()
        if stored.get(name) != value
    ]


def join(folder: Path, config: Config, options: dict[str, str]) -> bool:
    """Waits for the chief of a worker. Returns whether there is anything to do.

    Raises:
        UserError: no chief has come, or it searches with other settings. Their trials cannot be ranked together.
    """
    started, path = time.monotonic(), folder / "search.json"
    if not path.is_file():
        console.say(f"{folder}: waiting for the chief, up to {WAIT_SECONDS / 60:.0f} minutes")
    while not path.is_file():
        if time.monotonic() - started > WAIT_SECONDS:
            rule = "no chief has begun a search in it; start one, and let the workers share its folder"
            raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
        time.sleep(min(1.0, WAIT_SECONDS))
    if changed := differences(config, options, run_folder.read_json(path)):
        rule = f"its chief has other settings ({'; '.join(changed)}); start each worker with the command of the chief"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'")
    return not (config.resume and run_folder.read_json(folder / "tune.json").get("finished"))


def with_common_splits(data: Callable[..., Splits], folder: Path) -> Callable[..., Splits]:
    """Returns `HyperModel.data`, which refuses splits that are not those of the other processes. The first to come sets them."""

    def checked(size: int, framing: str, per_class_limit: int | None) -> Splits:
        splits = data(size, framing, per_class_limit)
        key = f"image_size={size}, framing={framing}, per_class_limit={per_class_limit}"
        with FileLock(folder / f".{SPLITS}.lock"):
            known = run_folder.read_json(folder / SPLITS)
            if known.setdefault(key, splits.digest) != splits.digest:
                rule = f"other images, labels or splits than those of this search in '{folder}' ({key})"
                raise UserError(f"--data: {rule}; give each process the same. Received: {splits.digest!r}")
            run_folder.write_json(folder / SPLITS, known)
        return splits

    return checked


@contextmanager
def alone_in_trial(folder: Path) -> Iterator[None]:
    """Waits until no other process trains a trial. A chief that starts again may hand out a trial that a worker still trains."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not in the folder of the trial, which may be removed.
    path = folder.parent / f".{folder.name}.lock"
    with waiting_lock(path, f"trial {folder.name}: another process trains it; waiting for its end"):
        yield


@contextmanager
def connected(kind: str) -> Iterator[None]:
    """Turns the failures of the connection between chief and workers into UserErrors."""
    if kind == "alone":
        yield
        return
    import grpc

    address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    names = "KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT"
    try:
        yield
    except grpc.RpcError as error:
        rule = f"no chief answers at this address ({error.code().name}); it has ended, or the address is not its own"
        raise UserError(f"{names}: {rule}. Received: {address!r}") from None
    except RuntimeError as error:
        if "bind" not in str(error):
            raise
        rule = "the chief cannot listen at this address; name an address of this machine and a free port"
        raise UserError(f"{names}: {rule}. Received: {address!r}") from None
