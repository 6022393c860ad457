"""The manifest: the files that a run was given. A later run of the same command compares them with those of then."""

import hashlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasft.data.listing import Listing
from kerasft.storage import run_folder

FILE_NAME, UNLABELLED_NAME = "manifest.npz", "unlabelled.npz"
# A message names at most so many groups of changed files.
MAX_GROUPS_IN_MESSAGE = 6


class _Row(NamedTuple):
    """One file.

    Attributes:
        split: as the source says it; empty where it says none.
        label: in words.
        digest: SHA-256 of the bytes; empty in manifests of earlier versions for files that the run could not use.
        group: by which splits are made; empty where no groups are given, None where the manifest does not know.
    """

    split: str
    label: str
    digest: str
    group: str | None

    def kind(self, task: str) -> str:
        """Returns how a message calls files with this split and label. Numbers of a regression form no group."""
        words = (self.split, "" if task == "regression" else self.label)
        return ", ".join(filter(None, words)) or "examples"


def write(folder: Path, listing: Listing, audited: Listing, file_name: str = FILE_NAME) -> None:
    """Writes `manifest.npz` into a run folder: str arrays [N] `ids`, `parts`, `labels`, `digests`, `groups`.

    Args:
        file_name: `UNLABELLED_NAME` for the images of `--unlabelled`.
        listing: all files.
        audited: the files that can be used, with their digests. Others are read again: a file that is repaired later
            changes the splits.
    """
    by_id = dict(zip(audited.ids.tolist(), audited.digests.tolist()))
    digests = [by_id.get(name) or _compute_digest(listing, row) for row, name in enumerate(listing.ids.tolist())]
    arrays = {
        "ids": listing.ids,
        "parts": listing.split_names,
        "labels": np.array(_describe_labels(listing)),
        "digests": np.array(digests, str),
        "groups": np.full(len(digests), "") if listing.groups is None else listing.groups,
    }
    run_folder.write(folder / file_name, lambda file: np.savez_compressed(file, **arrays))


def describe_changes(
    folder: Path, listing: Listing, file_name: str = FILE_NAME, digests: Mapping[str, str] | None = None
) -> str:
    """Describes how the data differ from the manifest of a run folder; empty for no difference, and without a manifest.

    Reads the bytes of every file whose digest is not known.

    Args:
        listing: the data as they are now.
        file_name: as in `write`.
        digests: SHA-256 of the bytes by name, of files that were read already.
    """
    known = digests or {}
    stored = _read(folder / file_name)
    if stored is None:
        return ""
    counts: Counter[tuple[str, str]] = Counter()
    # Manifests of earlier versions have no groups, and targets without names.
    has_groups = any(row.group is not None for row in stored.values())
    groups = [""] * len(listing.ids) if listing.groups is None else listing.groups.tolist()
    labels = _describe_labels(listing, named=has_groups)
    for index, (name, *parts) in enumerate(zip(listing.ids.tolist(), listing.split_names.tolist(), labels, groups)):
        split, label, group = parts
        now, before = _Row(split, label, "", group), stored.pop(name, None)
        if before is None:
            counts["added", now.kind(listing.task)] += 1
        elif before[:2] != now[:2]:
            counts["under another label or split", before.kind(listing.task)] += 1
        elif has_groups and before.group != group:
            counts["in another group", now.kind(listing.task)] += 1
        elif before.digest and before.digest != (known.get(name) or _compute_digest(listing, index)):
            counts["altered", now.kind(listing.task)] += 1
    counts.update(("removed", before.kind(listing.task)) for before in stored.values())
    changes = [f"{count} {word} ({group})" for (word, group), count in counts.most_common()]
    more = len(changes) - MAX_GROUPS_IN_MESSAGE
    return ", ".join(changes[:MAX_GROUPS_IN_MESSAGE] + ([f"and {more} more kinds of change"] if more > 0 else []))


def are_equal(folder: Path, other: Path) -> bool:
    """Whether two run folders were given the same files, with the same labels and splits."""
    stored = _read(folder / FILE_NAME)
    return stored is not None and stored == _read(other / FILE_NAME)


def read_labels(folder: Path) -> dict[str, str]:
    """Returns the label of each file in words; empty without a manifest."""
    return {name: row.label for name, row in (_read(folder / FILE_NAME) or {}).items()}


def read_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file; empty without a manifest."""
    return {name: row.digest for name, row in (_read(folder / FILE_NAME) or {}).items()}


def _read(path: Path) -> dict[str, _Row] | None:
    """Returns the stored rows by name of the file; None where there is no intact manifest."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = [stored[name].tolist() for name in ("ids", "parts", "labels", "digests")]
            columns.append(stored["groups"].tolist() if "groups" in stored else [None] * len(columns[0]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return {name: _Row(*row) for name, *row in zip(*columns)}


def _describe_labels(listing: Listing, *, named: bool = True) -> list[str]:
    """Returns the label of each file in words; of a regression the targets, with their names if `named`."""
    if listing.task == "single_label":
        return [listing.classes[label] for label in listing.labels]
    if listing.task == "multi_label":
        return ["|".join(listing.classes[i] for i in np.flatnonzero(row)) for row in listing.labels]
    if not named:
        return [", ".join(f"{value:g}" for value in row) for row in listing.labels]
    # Nine digits tell float32 numbers apart.
    return [
        ", ".join(f"{name}={value:.9g}" for name, value in zip(listing.classes, row, strict=True))
        for row in listing.labels
    ]


def _compute_digest(listing: Listing, index: int) -> str:
    try:
        return hashlib.sha256(listing.read(index)).hexdigest()
    # A file that can no longer be read has changed.
    except (OSError, ValueError):
        return "unreadable"
