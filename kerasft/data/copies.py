"""Copies: pictures that are the same to a network, byte for byte or pixel for pixel."""

from collections import defaultdict

import numpy as np

from kerasft.data.listing import SPLITS, Finding, Listing


def findings(listing: Listing) -> list[Finding]:
    """Warnings about each copy of an audited listing: in two splits, under two labels, or just there twice."""
    found = []
    for rows in _groups(listing.pixels):
        order = [_place(listing.parts[row]) for row in rows]
        first = rows[int(np.argmin(order))]
        for row in rows:
            if row == first:
                continue
            same = "same bytes" if listing.digests[row] == listing.digests[first] else "same picture in other bytes"
            labelled = (listing.labels[row] != listing.labels[first]).any()
            detail = f"{same} as {listing.ids[first]}"
            if _place(listing.parts[row]) > _place(listing.parts[first]):
                kind, under = "duplicate_across_splits", ", under another label" if labelled else ""
                detail += f"{under}; not used in {listing.parts[row]}"
            else:
                kind = "conflicting_label" if labelled else "duplicate"
            found.append(Finding(listing.ids[row], kind, "warn", detail))
    return found


def seen(parts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """bool [N]: whether an example has a copy in an earlier split: in train, or for test also in val, which chooses.

    Args:
        parts: str [N], `train`, `val` or `test`.
        pixels: as `Listing.pixels`.
    """
    found = np.zeros(len(parts), bool)
    for rows in _groups(pixels):
        places = np.array([_place(parts[row]) for row in rows])
        found[rows] = places > places.min()
    return found


def _groups(pixels: np.ndarray) -> list[list[int]]:
    """The rows of each picture that is there more than once."""
    groups = defaultdict(list)
    for row, digest in enumerate(pixels):
        groups[digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _place(part: str) -> int:
    """Of a split in their order; what has none is train, or carved from it with its copies."""
    return SPLITS.index(part or "train")
