"""What `--images` names: files in one fixed order."""

import csv
import glob
import os
from pathlib import Path
from typing import NamedTuple

from kerasft.console import console
from kerasft.data import files
from kerasft.data.sources.csv import MAX_TABLE_BYTES, read_header
from kerasft.data.sources.folder import is_hidden
from kerasft.predict.cells import meant
from kerasft.settings.errors import UserError


class Pictures(NamedTuple):
    """Files, in the order of the table.

    Attributes:
        names: as they are to be written into the table.
        folder: that the names are relative to.
    """

    names: list[str]
    folder: Path

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError, ValueError: it cannot be read, or is none that could hold a picture.
        """
        return files.read(self.folder / name)


def pictures(images: str, leave: tuple[Path, ...] = ()) -> Pictures:
    """The files that `--images` names.

    Args:
        images: a folder (every file below it by name, but hidden and system ones), a table (`*.csv`) with a column
            `path`, relative to the table's folder, in its own order; another file; or a glob pattern (`**` for nested
            folders).
        leave: files and folders to pass over: the table that is being written.

    Raises:
        UserError: nothing that matches, or a table without the column `path`.
    """
    if Path(images).is_dir():
        names = sorted(_below(images))
    elif Path(images).is_file():
        if Path(images).suffix.lower() == ".csv":
            return _listed(Path(images))
        names = [images]
    else:
        names = sorted(name for name in glob.glob(images, recursive=True) if Path(name).is_file())
    inside = tuple(os.path.abspath(path) for path in leave)
    names = [name for name in names if not _within(os.path.abspath(name), inside)]
    if not names:
        raise UserError(f"--images: no file matches. Received: {images!r}")
    return Pictures(names, Path())


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + os.sep) for place in places)


def _below(top: str) -> list[str]:
    """Every file of a folder and of those in it, but hidden and system ones, as a folder is listed for training."""

    def stop(error: OSError) -> None:
        # Its pictures would be missing without a word.
        raise UserError(f"--images: {error.filename} cannot be opened ({error.strerror}). Received: {top!r}") from None

    found = []
    for parent, folders, names in os.walk(top, onerror=stop):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for linked in filter(os.path.islink, (os.path.join(parent, name) for name in folders)):
            console.say(f"{linked}: is a link to a folder, and not followed")
        found += [os.path.join(parent, name) for name in names if not is_hidden(name)]
    return found


def _listed(file: Path) -> Pictures:
    """The column `path` of a table; what a row says beside it is not looked at."""
    try:
        files.check(file, MAX_TABLE_BYTES)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            columns, rows = read_header(lines)
            if columns.count("path") != 1:
                found = ", ".join(filter(None, columns)) or "none"
                raise UserError(f"--images: the first row must name a column path; found: {found}. Received: '{file}'")
            place = columns.index("path")
            names = [_file(file.parent, cells[place]) if len(cells) > place else "" for cells in rows if any(cells)]
    except (OSError, ValueError, csv.Error) as error:
        reason = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(f"--images: {reason}. Received: '{file}'") from None
    if not names:
        raise UserError(f"--images: the table names no file. Received: '{file}'")
    return Pictures(names, file.parent)


def _file(folder: Path, cell: str) -> str:
    """The name in a cell: as it stands there, or as the cell of a table that `--out` wrote is meant."""
    return cell if meant(cell) == cell or os.path.lexists(folder / cell) else meant(cell)
