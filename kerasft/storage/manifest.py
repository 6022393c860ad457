"""The manifest: which files a run was given, so that the same command later sees what has changed."""

import hashlib
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasft.data.listing import Listing
from kerasft.storage import run_folder

NAME = "manifest.npz"
MOST = 6  # groups that a message names


class _Row(NamedTuple):
    """A file: its split as far as the source says it, its label in words, and the SHA-256 of its bytes or nothing."""

    part: str
    label: str
    digest: str

    def group(self, task: str) -> str:
        """What a message calls files like this one; numbers are no groups."""
        words = (self.part, "" if task == "regression" else self.label)
        return ", ".join(filter(None, words)) or "examples"


def write(folder: Path, listing: Listing, audited: Listing) -> None:
    """Writes `manifest.npz` into a run folder: str arrays [N] `ids`, `parts`, `labels`, `digests`.

    Args:
        listing: all files.
        audited: those that can be used, whose digests are known. The others have an empty one.
    """
    known = dict(zip(audited.ids.tolist(), audited.digests.tolist()))
    digests = np.array([known.get(name, "") for name in listing.ids.tolist()])
    arrays = {"ids": listing.ids, "parts": listing.parts, "labels": np.array(_labels(listing)), "digests": digests}
    run_folder.write(folder / NAME, lambda file: np.savez_compressed(file, **arrays))


def changes(folder: Path, listing: Listing) -> str:
    """What differs from the manifest of a run folder, in words; empty where nothing does, or there is no manifest.

    The bytes of every file that the run could use are read.

    Args:
        listing: the data as they are now.
    """
    then = _read(folder)
    if then is None:
        return ""
    counts: Counter[tuple[str, str]] = Counter()
    for index, (name, part, label) in enumerate(zip(listing.ids.tolist(), listing.parts.tolist(), _labels(listing))):
        now, before = _Row(part, label, ""), then.pop(name, None)
        if before is None:
            counts["added", now.group(listing.task)] += 1
        elif before[:2] != now[:2]:
            counts["under another label or split", before.group(listing.task)] += 1
        elif before.digest and before.digest != _digest(listing, index):
            counts["altered", now.group(listing.task)] += 1
    counts.update(("removed", before.group(listing.task)) for before in then.values())
    found = [f"{count} {word} ({group})" for (word, group), count in counts.most_common()]
    more = [f"and {len(found) - MOST} more kinds of change"] if len(found) > MOST else []
    return ", ".join(found[:MOST] + more)


def _read(folder: Path) -> dict[str, _Row] | None:
    """What is known of each file by name; None where there is no whole manifest."""
    try:
        with (folder / NAME).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = [stored[name].tolist() for name in ("ids", "parts", "labels", "digests")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return {name: _Row(*row) for name, *row in zip(*columns)}


def _labels(listing: Listing) -> list[str]:
    if listing.task == "single_label":
        return [listing.classes[label] for label in listing.labels]
    if listing.task == "multi_label":
        return ["|".join(listing.classes[i] for i in np.flatnonzero(row)) for row in listing.labels]
    return [", ".join(f"{value:g}" for value in row) for row in listing.labels]


def _digest(listing: Listing, index: int) -> str:
    try:
        return hashlib.sha256(listing.read(index)).hexdigest()
    except OSError:  # it cannot be read any more, which is a change
        return "unreadable"
