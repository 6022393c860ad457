"""Files of the user's: only regular ones up to a stated size are opened, so that nothing waits for ever or fills the memory."""

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 28  # of a file that is still taken for a picture; a film in the folder is not read


def read(path: str | Path) -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a folder, a pipe, a socket or a device (or links to one), or has too many bytes.
    """
    check(path, MAX_BYTES)
    # Another file may have taken its place since: a pipe is not waited for, and no more is read than was allowed.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        _check(found, MAX_BYTES)
        return file.read(found.st_size)


def check(path: str | Path, most: int) -> None:
    """Refuses what must not be opened, without opening it.

    Raises:
        OSError: there is no such file.
        ValueError: it is no regular file, or has more than `most` bytes.
    """
    _check(os.stat(path), most)


def _check(found: os.stat_result, most: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is no regular file")
    if found.st_size > most:
        raise ValueError(f"has more than {most >> 20} MiB")
