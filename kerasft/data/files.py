"""Opens files of the user. Only regular files up to a stated size are opened, so no read blocks or fills the memory."""

import errno
import os
import stat
from pathlib import Path

from kerasft.settings.errors import UserError

# A file with more bytes (256 MiB) is not read as an image: a video in the folder is refused.
MAX_IMAGE_BYTES = 1 << 28

# The kernel makes up the files below these folders. They have no end, or no content that stays.
_PSEUDO_FILE_SYSTEMS = (Path("/proc"), Path("/sys"), Path("/dev"))
# Except this one, which holds ordinary files in memory.
_SHARED_MEMORY = Path("/dev/shm")


def expand(text: str, flag: str) -> Path:
    """A path as the user writes it, with `~` expanded.

    Raises:
        UserError: `~` names nobody's home, or the name is too long for a file.
    """
    try:
        path = Path(text).expanduser()
        os.lstat(path)
    except RuntimeError as error:
        raise UserError(f"{flag}: ~ must be the home of a user. Received: {text!r}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{flag}: is too long for the name of a file. Received: {text!r}") from error
    return path


def with_slashes(folder: Path, path: str) -> str:
    """A path of a table in this folder, with the `\\` of Windows written as `/`.

    Elsewhere a file name may have a backslash. So the path of an entry that exists stays as it is.
    """
    return path if "\\" not in path or os.path.lexists(folder / path) else path.replace("\\", "/")


def read(path: str | Path) -> bytes:
    """Reads a regular file of at most `MAX_IMAGE_BYTES`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the path is (or links to) a folder, a pipe, a socket or a device; or the file has too many bytes.
    """
    check(path, MAX_IMAGE_BYTES)
    # Another file may have replaced it since: a pipe must not block, and no more than the checked size is read.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        _check_status(status, MAX_IMAGE_BYTES)
        return file.read(status.st_size)


def check(path: str | Path, max_bytes: int) -> None:
    """Refuses a file that must not be opened, without opening it.

    Raises:
        OSError: there is no such file.
        ValueError: the path is no regular file, or the file has more than `max_bytes`.
    """
    _check_status(os.stat(path), max_bytes)


def is_pseudo(path: Path) -> bool:
    """Tells whether a path, with its links resolved, lies in a file system that the kernel makes up."""
    path = path.resolve()
    inside = any(path.is_relative_to(top) for top in _PSEUDO_FILE_SYSTEMS)
    return inside and not path.is_relative_to(_SHARED_MEMORY)


def _check_status(status: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file")
    if status.st_size > max_bytes:
        raise ValueError(f"has more than {max_bytes >> 20} MiB")
