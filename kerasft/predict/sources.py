"""The image files that `--images` names, in a fixed order."""

import csv
import glob
import os
from pathlib import Path
from typing import NamedTuple

from kerasft.console import console
from kerasft.data import files
from kerasft.data.csv_escaping import unescape_formula
from kerasft.data.sources.csv import MAX_TABLE_BYTES
from kerasft.data.sources.folder import is_hidden
from kerasft.data.table_header import read_header
from kerasft.settings.errors import UserError


class ImageFiles(NamedTuple):
    """Image files in the order of the table.

    Attributes:
        names: as the table shows them.
        folder: the names are relative to it.
    """

    names: list[str]
    folder: Path

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            OSError, ValueError: it cannot be read, or is no regular file of a possible size.
        """
        return files.read(self.folder / name)


def find_images(images: str, exclude: tuple[Path, ...] = ()) -> ImageFiles:
    """Returns the files that `--images` names.

    Args:
        images: a folder (every file below it by name, but hidden and system ones), a table (`*.csv`) with a column
            `path`, relative to the table's folder, in its own order; another file; or a glob pattern (`**` for nested
            folders).
        exclude: files and folders to leave out, such as the table that is being written.

    Raises:
        UserError: no file matches, or a table has no column `path`.
    """
    if Path(images).is_dir():
        names = sorted(_walk(images))
    elif Path(images).is_file():
        if Path(images).suffix.lower() == ".csv":
            return _read_table(Path(images))
        names = [images]
    else:
        names = sorted(name for name in glob.glob(images, recursive=True) if Path(name).is_file())
    inside = tuple(os.path.abspath(path) for path in exclude)
    names = [name for name in names if not _within(os.path.abspath(name), inside)]
    if not names:
        raise UserError(f"--images: no file matches. Received: {images!r}")
    return ImageFiles(names, Path())


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + os.sep) for place in places)


def _walk(top: str) -> list[str]:
    """Returns all files of a folder and its subfolders, without hidden and system files, as for training."""

    def stop(error: OSError) -> None:
        # Otherwise the images of this folder would be missing without a message.
        raise UserError(f"--images: {error.filename} cannot be opened ({error.strerror}). Received: {top!r}") from None

    found = []
    for parent, folders, names in os.walk(top, onerror=stop):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for linked in filter(os.path.islink, (os.path.join(parent, name) for name in folders)):
            console.say(f"{linked}: is a link to a folder; it is not followed")
        found += [os.path.join(parent, name) for name in names if not is_hidden(name)]
    return found


def _read_table(file: Path) -> ImageFiles:
    """Reads the column `path` of a table. Other columns are ignored."""
    try:
        files.check(file, MAX_TABLE_BYTES)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            columns, rows = read_header(lines)
            if columns.count("path") != 1:
                found = ", ".join(filter(None, columns)) or "none"
                raise UserError(f"--images: the first row must name a column path; found: {found}. Received: '{file}'")
            index = columns.index("path")
            names = [
                _unescape_path(file.parent, cells[index]) if len(cells) > index else "" for cells in rows if any(cells)
            ]
    except (OSError, ValueError, csv.Error) as error:
        reason = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(f"--images: {reason}. Received: '{file}'") from None
    if not names:
        raise UserError(f"--images: the table names no file. Received: '{file}'")
    return ImageFiles(names, file.parent)


def _unescape_path(folder: Path, cell: str) -> str:
    """Returns the path of a cell. A cell of a table that `--out` wrote may be escaped. Windows writes `\\` for `/`."""
    escaped = unescape_formula(cell) != cell and not os.path.lexists(folder / cell)
    return files.with_slashes(folder, unescape_formula(cell) if escaped else cell)
