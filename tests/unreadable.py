"""A folder that cannot be read. Root may read what has no permissions, so the calls of the system are replaced."""

import errno
import os
from pathlib import Path

import pytest


def closed(patch: pytest.MonkeyPatch, folder: Path, number: int = errno.EACCES) -> None:
    """Lets an OSError meet whoever lists the folder, or looks at a file in it."""
    stat = os.stat

    def closing(call):
        def checked(path=".", *given, **named):
            inside = isinstance(path, (str, os.PathLike)) and Path(path).is_relative_to(folder)
            if inside and (call is not stat or Path(path) != folder):
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *given, **named)

        return checked

    for name in ("listdir", "scandir", "stat"):
        patch.setattr(os, name, closing(getattr(os, name)))
