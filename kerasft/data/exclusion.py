"""`--exclude`: images that the user has taken out of the data, by a list of their paths. No file is changed."""

import csv
import io
import posixpath
from dataclasses import replace

import numpy as np

from kerasft.data import csv_escaping, files
from kerasft.data.listing import Finding, Listing
from kerasft.data.table_header import read_header
from kerasft.settings.errors import UserError, did_you_mean

# A list of more bytes (1 GiB) is not read.
MAX_LIST_BYTES = 1 << 30


def without_excluded(listing: Listing, file: str) -> Listing:
    """Returns the listing without the images that a list names. Each of them becomes a finding.

    A file that the source has rejected already may be named too: what was wrong with it is then no reason to stop a run.

    Args:
        listing: of any source.
        file: a `.csv` with a column `path`, such as `suspects.csv`, or a text with one path a line. Paths are those of
            `audit.json`: relative to the source, with `/` or the `\\` of Windows.

    Raises:
        UserError: the list cannot be read, names no image of the data, or names all of them.
    """
    paths = _read_paths(file)
    names = [posixpath.normpath(str(name)) for name in listing.ids]
    rejected = {posixpath.normpath(finding.path) for finding in listing.findings if finding.verdict == "reject"}
    known_names = {*names, *rejected}
    wanted = {_find_name(path, known_names) for path in paths}
    excluded = np.array([name in wanted for name in names], bool)
    if wanted and not excluded.any() and not wanted & rejected:
        example = f"{did_you_mean(paths[0], map(str, listing.ids)) or f', such as {str(listing.ids[0])!r}'}"
        rule = f"names {len(wanted)} paths, none of which is in the data; paths are relative to --data{example}"
        raise UserError(f"--exclude: {rule}. Received: {file!r}")
    if len(names) and excluded.all():
        raise UserError(f"--exclude: names all {len(names)} images of the data. Received: {file!r}")
    known = [
        finding._replace(kind="excluded", detail=f"named in --exclude; {finding.kind}: {finding.detail}")
        if finding.verdict == "reject" and posixpath.normpath(finding.path) in wanted
        else finding
        for finding in listing.findings
    ]
    findings = [Finding(str(name), "excluded", "reject", "named in --exclude") for name in listing.ids[excluded]]
    if unknown := sorted(wanted - known_names):
        detail = f"{len(unknown)} of {len(wanted)} paths of --exclude are not in the data"
        findings.append(Finding(unknown[0], "excluded", "warn", detail))
    rows = np.flatnonzero(~excluded)
    return replace(
        listing,
        ids=listing.ids[rows],
        labels=listing.labels[rows],
        split_names=listing.split_names[rows],
        groups=None if listing.groups is None else listing.groups[rows],
        read=lambda index: listing.read(int(rows[index])),
        findings=(*known, *findings),
    )


def _find_name(path: str, names: set[str]) -> str:
    """Returns the path as the names have it: a `\\` may be part of a name, or the separator of Windows."""
    written, with_slashes = posixpath.normpath(path), posixpath.normpath(path.replace("\\", "/"))
    return with_slashes if written not in names and with_slashes in names else written


def _read_paths(file: str) -> list[str]:
    """Returns the paths of a list, in its order.

    Raises:
        UserError: it cannot be read, or is a `.csv` without a column `path`.
    """
    path = files.expand(file, "--exclude")
    try:
        files.check(path, MAX_LIST_BYTES)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(f"--exclude: {reason}. Received: {file!r}") from None
    if path.suffix.lower() != ".csv":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        columns, rows = read_header(io.StringIO(text, newline=""))
        if "path" not in columns:
            found = ", ".join(filter(None, columns)) or "none"
            raise UserError(f"--exclude: the .csv needs a column path; found: {found}. Received: {file!r}")
        place = columns.index("path")
        paths = [row[place] for row in rows if len(row) > place]
        return [csv_escaping.unescape_formula(path) for path in paths if path]
    except csv.Error as error:
        raise UserError(f"--exclude: {error}. Received: {file!r}") from None
