"""A file lock that says what it waits for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kerasft.console import console


@contextmanager
def waiting_lock(path: Path, message: str) -> Iterator[None]:
    """Holds a file lock while the block runs. The lock of a process that was killed is free.

    Args:
        path: of the lock file, whose folder exists.
        message: said once if another process holds the lock.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.say(message)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
