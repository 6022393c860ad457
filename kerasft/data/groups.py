"""Groups: images that belong together, such as those of one patient, scene or burst. No group stands on both sides of a split."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasft.data import duplicates
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.settings.errors import UserError

# A chain of near duplicates has at least so many images: two are a copy, more are a burst or a film.
MIN_CHAIN = 3
# A finding names at most so many images of a chain.
_MAX_NAMES = 3


def with_pattern(listing: Listing, pattern: str) -> Listing:
    """Returns the listing with the group of each image, read from its path.

    Args:
        listing: of any source.
        pattern: a regular expression. Its first group, where the pattern is first found in a path, names the group.

    An image whose path does not match is a group of its own, and a finding counts these.

    Raises:
        UserError: the pattern is no regular expression, has no group, or matches no path.
    """
    names = match(pattern, listing.ids.tolist())
    if not any(names):
        example = f", such as {str(listing.ids[0])!r}" if len(listing.ids) else ""
        raise UserError(f"--group_pattern: is found in none of {len(names)} paths{example}. Received: {pattern!r}")
    groups = np.array([name or f"/{path}" for name, path in zip(names, listing.ids)])
    findings = listing.findings
    if missing := [str(path) for path, name in zip(listing.ids, names) if not name]:
        detail = f"--group_pattern is not found in {len(missing)} paths; each of these images is a group of its own"
        findings = (*findings, Finding(missing[0], "group", "warn", detail))
    return replace(listing, groups=groups, findings=findings)


def match(pattern: str, paths: Sequence[str]) -> list[str | None]:
    """Returns the group that the pattern finds in each path, or None.

    Raises:
        UserError: the pattern is no regular expression, or has no group.
    """
    received = f"Received: {pattern!r}"
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"--group_pattern: must be a regular expression ({error}). {received}") from None
    if not compiled.groups:
        rule = "needs a group in brackets that names the group of an image, such as 'patient(\\d+)'"
        raise UserError(f"--group_pattern: {rule}. {received}")
    found = [compiled.search(path) for path in paths]
    return [one and one.group(1) for one in found]


def find_broken(listing: Listing) -> list[Finding]:
    """Returns a finding `leak` for each image of whose group the source puts others into an earlier split."""
    if listing.groups is None:
        return []
    order, findings = duplicates.split_orders(listing.split_names), []
    _, group = np.unique(listing.groups, return_inverse=True)
    first = np.full(group.max(initial=0) + 1, len(SPLITS))
    np.minimum.at(first, group, order)
    for index, split in enumerate(SPLITS[1:], 1):
        crossing = (order == index) & (first[group] < index)
        for rows in _parted(np.flatnonzero(crossing), group):
            earlier, name = SPLITS[first[group[rows[0]]]], str(listing.groups[rows[0]])
            detail = f"group {name!r} stands in {earlier} and in {split}, there with {len(rows)} image{'s' * (len(rows) > 1)}"
            findings += [Finding(str(listing.ids[row]), "leak", "warn", detail, 1.0) for row in rows]
    return findings


def find_chains(listing: Listing, near: np.ndarray) -> list[Finding]:
    """Returns a finding `group` for near duplicates that tell of groups which the settings do not know.

    That is a chain of at least `MIN_CHAIN` images where no groups are given, or near duplicates in several given groups.

    Args:
        listing: audited examples.
        near: int [N], equal for near duplicates.
    """
    findings = []
    for rows in _parted(np.arange(len(near)), near):
        if len(rows) < 2:
            continue
        # Equal images are one.
        count = len(np.unique(listing.pixel_digests[rows]))
        named = ", ".join(str(path) for path in listing.ids[rows[1 : 1 + _MAX_NAMES]])
        named += ", ..." if count > 1 + _MAX_NAMES else ""
        if listing.groups is None:
            if count < MIN_CHAIN:
                continue
            detail = f"the first of a chain of {count} near duplicates ({named}); is this a burst? See --group_pattern"
        else:
            joined = np.unique(listing.groups[rows])
            if len(joined) < 2:
                continue
            detail = f"nearly the same as {named}, of another group ({', '.join(joined[: 1 + _MAX_NAMES])})"
        score = round(1 - 1 / (count + 1), 4)
        findings.append(
            Finding(str(listing.ids[rows[0]]), "group", "warn", detail, score, other=str(listing.ids[rows[1]]))
        )
    return sorted(findings, key=lambda finding: -(finding.score or 0))


def _parted(rows: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each value, in ascending order."""
    rows = rows[np.argsort(values[rows], kind="stable")]
    ends = np.flatnonzero(np.diff(values[rows])) + 1
    return np.split(rows, ends) if len(rows) else []


def connect(listing: Listing, rows: np.ndarray) -> np.ndarray:
    """Returns int [len(rows)], the unit of each row: equal for images that must not be parted.

    Equal images, near duplicates and images of one group are connected, over others as well.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kinds = [listing.pixel_digests[rows]]
    kinds += [values[rows] for values in (listing.near_groups, listing.groups) if values is not None]
    count, offset, starts, ends = len(rows), len(rows), [], []
    for values in kinds:
        distinct, places = np.unique(values, return_inverse=True)
        starts.append(np.arange(count))
        ends.append(offset + places)
        offset += len(distinct)
    links = np.ones(count * len(kinds)), (np.concatenate(starts), np.concatenate(ends))
    return connected_components(coo_array(links, (offset, offset)), directed=False)[1][:count]


def repeated(groups: np.ndarray | None) -> np.ndarray | None:
    """The groups of the images of a split, int [N], if two of them are of one; else None: each is a draw of its own."""
    return groups if groups is not None and len(np.unique(groups)) < len(groups) else None
