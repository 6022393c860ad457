"""Messages and exit statuses for errors that end the command: a full disk, a closed pipe, a user's mistake."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from kerasft.settings.errors import UserError, printable

# What to do, by errno. Other errors keep the message of the operating system.
_MESSAGES = {
    errno.ENOSPC: "the disk is full; free some space, or name a folder on another disk",
    errno.EDQUOT: "the quota is used up; free some space, or name a folder elsewhere",
    errno.EFBIG: "the file would be larger than this process may write (see ulimit -f)",
    errno.EROFS: "the disk is read-only; name a folder that can be written",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "the name is too long for this file system (mostly 255 bytes a part)",
    errno.EMFILE: "too many files are open (see ulimit -n)",
    errno.ENOLCK: "the file system has no locks; name a folder on another disk",
}
# Libraries written in C++ give these only in the text of their error.
_CODES_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# After these errors a run can resume from its last saved state.
_RESUMABLE_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Exit statuses.
EXIT_MISTAKE, EXIT_STOPPED = 2, 3


def report(error: BaseException, paths: Mapping[str, str]) -> int | None:
    """Prints what ended the command. Returns the exit status, or None for a bug of kerasft.

    Args:
        error: any error.
        paths: the paths that the command line names, by flag.
    """
    if isinstance(error, UserError):
        print_message(error.args)
        return EXIT_MISTAKE
    if isinstance(error, KeyboardInterrupt):
        print_message(["stopped; the same command resumes from the last saved state"])
        return EXIT_STOPPED
    if isinstance(error, BrokenPipeError):
        discard_output()
        return EXIT_STOPPED
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "kerasft").partition(".")[0]) != "kerasft":
        # As where kerasft is installed with --no-deps.
        print_message([f"this needs the package {name}: pip install kerasft. Received: '{error}'"])
        return EXIT_MISTAKE
    if lines := describe(error, paths):
        print_message(lines)
        _flush_or_discard_output()
        return EXIT_MISTAKE
    return None


def describe(error: BaseException, paths: Mapping[str, str]) -> list[str] | None:
    """Returns the message for an error of the file system; None for any other error, which is a bug of kerasft.

    Args:
        error: an OSError, or what a library raised instead of one. The message includes its notes.
        paths: the paths that the command line names, by flag.
    """
    code = _code(error)
    if code is None:
        return None
    name = _file(error)
    flag, place = _find_flag(name, str(error), paths)
    reason = _MESSAGES.get(code) or os.strerror(code)
    if code == errno.ENOSPC and place:
        reason += f" ({format_bytes(free_bytes(Path(place)))} are free)"
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    resume = "; what was saved is kept, and the same command resumes from it" if code in _RESUMABLE_CODES else ""
    return [f"{flag}: " * bool(flag) + f"{reason}{notes}{resume}. Received: {name or place or str(error)[:200]!r}"]


def free_bytes(path: Path) -> int:
    """Returns the free bytes of the disk that has, or will have, a path."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def format_bytes(count: float) -> str:
    """Formats a number of bytes: `1.2 GB`, `35 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def print_message(lines: Iterable[object]) -> None:
    """Prints the lines of a message to standard error. Control characters in names are escaped."""
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
    return next((code for code in _CODES_IN_TEXT if os.strerror(code) in str(error)), None)


def _file(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""


def _find_flag(name: str, text: str, paths: Mapping[str, str]) -> tuple[str, str]:
    """Returns the flag, and its path, that holds the file or that the text names. The innermost of several paths wins."""
    paths = {**paths, "TMPDIR": tempfile.gettempdir()}
    by_depth = sorted(paths.items(), key=lambda item: -len(os.path.abspath(item[1])))
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
