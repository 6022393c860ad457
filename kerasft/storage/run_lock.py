"""One run at a time in a run folder: a lock of the operating system, and beside it who holds it."""

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
def alone(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a run folder while the block runs.

    The system releases the lock when its process ends, however it ends. So a lock whose owner was killed is free, and
    is taken over; the owner is only what the second run is told.

    Args:
        folder: is made.

    Raises:
        UserError: another run holds the lock; its process, host and start are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        rule = f"another run is working in it ({_owner(folder)}); wait for it or stop it, or name another folder"
        raise UserError(f"--run_dir: {rule}. Received: '{folder}'") from None
    try:
        if (folder / OWNER).exists():
            console.say(f"{folder}: taken over from a run that was cut off ({_owner(folder)})")
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        run_folder.write_json(folder / OWNER, {"host": platform.node(), "pid": os.getpid(), "since": since})
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    """Who holds the lock, in words; it may have gone, or not have written itself down yet."""
    try:
        owner = json.loads((folder / OWNER).read_text())
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known"
