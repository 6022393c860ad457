"""Duplicates: images that are the same to a network, byte for byte or pixel for pixel."""

from collections import defaultdict

import numpy as np

from kerasft.data.listing import SPLITS, Finding, Listing


def find_duplicates(listing: Listing) -> list[Finding]:
    """Returns a warning for each duplicate in an audited listing.

    The kind says where the other image is: in an earlier split, in the same split under another label, or in the same
    split under the same label.
    """
    findings, draws_test = [], "test" not in {*listing.split_names, *listing.named_splits}
    for rows in _group_rows(listing.pixel_digests):
        first = min(rows, key=lambda row: _split_order(listing.split_names[row]))
        for row in rows:
            if row == first:
                continue
            same_bytes = listing.digests[row] == listing.digests[first]
            other_label = (listing.labels[row] != listing.labels[first]).any()
            detail = f"{'same bytes' if same_bytes else 'same image in other bytes'} as {listing.ids[first]}"
            if _split_order(listing.split_names[row]) > _split_order(listing.split_names[first]):
                kind = "duplicate_across_splits"
                detail += ", under another label" if other_label else ""
                detail += f"; not used in {listing.split_names[row]}"
                if listing.split_names[row] == "val" and draws_test:
                    detail += f", unless {listing.ids[first]} is drawn into test"
            else:
                kind = "conflicting_label" if other_label else "duplicate"
            findings.append(Finding(listing.ids[row], kind, "warn", detail))
    return findings


def findings_of_draw(listing: Listing, split_names: np.ndarray) -> tuple[Finding, ...]:
    """Returns the findings of a listing, those of `find_duplicates` as the splits came out.

    An image of val stays if its copy was drawn from train into test, for val is the earlier one: the copy is left out.

    Args:
        split_names: str [N], after duplicates of earlier splits are taken out (empty), and nothing else.
    """
    drawn = np.flatnonzero((split_names == "") & np.isin(listing.split_names, ("", "train")))
    ids, digests, kept = listing.ids.tolist(), listing.pixel_digests.tolist(), defaultdict(list)
    for row in np.flatnonzero(split_names == "val") if len(drawn) else ():
        kept[digests[row]].append(ids[row])
    kind, used = "duplicate_across_splits", {path for row in drawn for path in kept[digests[row]]}
    known = (one for one in listing.findings if (one.kind, one.verdict) != (kind, "warn") or one.path not in used)
    details = ((row, f"same image as {kept[digests[row]][0]}; not used in test") for row in drawn)
    return (*known, *(Finding(ids[row], kind, "warn", detail) for row, detail in details))


def has_earlier_duplicate(split_names: np.ndarray, pixel_digests: np.ndarray) -> np.ndarray:
    """Tells of each example whether an earlier split holds the same image.

    Earlier than val is train. Earlier than test are train and val, because val chooses what is kept.

    Args:
        split_names: str [N], `train`, `val` or `test`.
        pixel_digests: str [N], as `Listing.pixel_digests`.

    Returns:
        bool [N].
    """
    duplicated = np.zeros(len(split_names), bool)
    for rows in _group_rows(pixel_digests):
        order = np.array([_split_order(split_names[row]) for row in rows])
        duplicated[rows] = order > order.min()
    return duplicated


def _group_rows(pixel_digests: np.ndarray) -> list[list[int]]:
    """Returns the rows of each image that occurs more than once."""
    groups = defaultdict(list)
    for row, digest in enumerate(pixel_digests):
        groups[digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def split_orders(split_names: np.ndarray) -> np.ndarray:
    """Returns int [N], the place of each split: train (and no split) 0, val 1, test 2."""
    return np.array([_split_order(name) for name in split_names], int)


def _split_order(split_name: str) -> int:
    """An example without a split counts as train: whatever split it is given, its duplicates go with it."""
    return SPLITS.index(split_name or "train")
