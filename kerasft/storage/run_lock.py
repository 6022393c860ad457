"""Lets only one run at a time work in a run folder: a file lock, and a file that names the run that holds it."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kerasft.console import console
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder

LOCK, OWNER = run_folder.LOCK_FILES


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a run folder while the block runs.

    The operating system releases the lock when the process ends, however it ends. So the lock of a killed run is free, and
    the next run takes it. The owner file is only read for messages.

    Args:
        folder: of the run. It is created, and removed again where the block fails before it has written more than settings.

    Raises:
        UserError: another run holds the lock. The message names its process, host and start.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        rule = (
            f"another run is working in it ({_describe_owner(folder)}); wait for it or stop it, or name another folder"
        )
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'") from None
    try:
        if (folder / OWNER).exists():
            console.say(f"{folder}: taken over from a run that was killed ({_describe_owner(folder)})")
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        run_folder.write_json(folder / OWNER, {"host": platform.node(), "pid": os.getpid(), "since": since})
        yield
    except BaseException:
        run_folder.remove_unbegun(made)
        raise
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _describe_owner(folder: Path) -> str:
    """Describes the run that holds the lock. It may have ended, or may not have written its file yet."""
    try:
        owner = json.loads((folder / OWNER).read_text())
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known"
