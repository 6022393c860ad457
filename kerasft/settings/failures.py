"""Failures of the machine: messages for errors of a disk or of the output, with the flag that names the folder."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kerasft.settings.errors import UserError, printable

# By errno: what to do. Any other error keeps the words of the system.
_WORDS = {
    errno.ENOSPC: "the disk is full; free some space, or name a folder on another disk",
    errno.EDQUOT: "the quota is used up; free some space, or name a folder elsewhere",
    errno.EFBIG: "the file would be larger than this process may write (see ulimit -f)",
    errno.EROFS: "the disk is read-only; name a folder that can be written",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "the name is too long for this file system (mostly 255 bytes a part)",
    errno.EMFILE: "too many files are open (see ulimit -n)",
    errno.ENOLCK: "the file system has no locks; name a folder on another disk",
}
# Those that libraries written in C++ tell in their text only.
_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Those after which there is something to go on from.
_MIDWAY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


MISTAKE, STOPPED = 2, 3


def report(error: BaseException, places: Mapping[str, str]) -> int | None:
    """Tells what ended the command, and gives its exit status; None for an error that is ours.

    Args:
        error: any.
        places: flag to the path that it names.
    """
    if isinstance(error, UserError):
        print_message(error.args)
        return MISTAKE
    if isinstance(error, KeyboardInterrupt):
        print_message(["stopped; the same command goes on from the last saved state"])
        return STOPPED
    if isinstance(error, BrokenPipeError):
        discard_output()
        return STOPPED
    if lines := describe(error, places):
        print_message(lines)
        _flush_or_discard_output()
        return MISTAKE
    return None


def describe(error: BaseException, places: Mapping[str, str]) -> list[str] | None:
    """The lines of a message for an error of the file system; None for any other error, which is ours.

    Args:
        error: an OSError, or what a library raised for one. Its notes are printed too.
        places: flag to the path that it names.
    """
    code = _code(error)
    if code is None:
        return None
    name = _file(error)
    flag, place = _owner(name, str(error), places)
    reason = _WORDS.get(code) or os.strerror(code)
    if code == errno.ENOSPC and place:
        reason += f" ({size(free(Path(place)))} are free)"
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    going_on = "; what was saved is kept, and the same command goes on from there" if code in _MIDWAY else ""
    return [f"{flag}: " * bool(flag) + f"{reason}{notes}{going_on}. Received: {name or place or str(error)[:200]!r}"]


def free(path: Path) -> int:
    """Bytes that a user may still write where a path is, or will be."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def size(count: float) -> str:
    """Bytes in words: `1.2 GB`, `35 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def print_message(lines: Iterable[object]) -> None:
    """Prints the lines of a message to standard error, where nothing of a name is obeyed by the terminal."""
    print("\n".join(printable(str(line)) for line in lines), file=sys.stderr)


def discard_output() -> None:
    """Sends the rest of standard output to the null device. Otherwise Python fails again when it flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _flush_or_discard_output() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return next((code for code in _IN_TEXT if os.strerror(code) in str(error)), None)


def _file(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""


def _owner(name: str, text: str, places: Mapping[str, str]) -> tuple[str, str]:
    """The flag whose path holds a file, or is named in a text; the innermost one of several."""
    places = {**places, "TMPDIR": tempfile.gettempdir()}
    by_depth = sorted(places.items(), key=lambda item: -len(os.path.abspath(item[1])))
    for flag, place in by_depth:
        whole = os.path.abspath(place)
        inside = os.path.abspath(name).startswith(whole.rstrip(os.sep) + os.sep) if name else False
        if inside or (name and os.path.abspath(name) == whole) or (not name and place in text):
            return flag, place
    return "", ""


def ignore_hdf5_cleanup() -> None:
    """Drops the tracebacks that h5py prints for objects that a full disk keeps it from closing.

    The error that filled the disk has a message of its own. h5py raises these in `__dealloc__`, where nothing can catch them.
    """
    show_exception, show_unraisable = sys.excepthook, sys.unraisablehook
    cleanup = "Can't decrement id ref count"

    def excepthook(kind, error, trace) -> None:
        if cleanup not in str(error):
            show_exception(kind, error, trace)

    def unraisablehook(found: "sys.UnraisableHookArgs") -> None:
        if cleanup not in str(found.exc_value):
            show_unraisable(found)

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook
