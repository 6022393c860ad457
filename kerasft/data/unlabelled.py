"""Images without labels (`--unlabelled`): which of them are left out, and what stands for a label.

Nothing is chosen or scored by them. So all that is asked of them is that they are not images of another split again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kerasft.data import image_measurements, near_duplicates, pipeline
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.data.splits import Split, Splits, make_split
from kerasft.settings.errors import UserError

# Images are measured in steps that bound the memory.
IMAGES_PER_STEP = 512


def with_unlabelled(
    data: Splits,
    labelled: Listing,
    listing: Listing,
    images: Callable[[np.ndarray], np.ndarray] | None,
    size: int,
    *,
    near: bool = True,
) -> Splits:
    """Returns the splits with the images of a listing as `unlabelled`, without copies.

    Left out are copies of labelled images and of each other, and near duplicates and members of a group of images of val and
    test: what is scored must be new. Near duplicates of training images are further views of them, and stay.

    Args:
        data: the splits.
        labelled: the audited listing that the splits were made of.
        listing: the audited images without labels, of the same framing.
        images: index array [B] of that listing to uint8 [B, S, S, 3], or None.
        size: side of the images in pixels, S.
        near: whether near duplicates are looked for.

    Raises:
        UserError: no image is left.
    """
    findings = _find_copies(data, labelled, listing)
    copies = {finding.path for finding in findings}
    held_out = _find_held_out_groups(data, labelled, listing)
    findings += [finding for finding in held_out if finding.path not in copies]
    rows = _without(listing, findings)
    if near:
        findings += _find_near_copies(data, make_split(listing, images, rows), size)
        rows = _without(listing, findings)
    if not len(rows):
        rule = f"no image is left; {len(findings)} of {len(listing.ids)} that can be read are copies, or of a group in val or test. See audit.json"
        raise UserError(f"--unlabelled: {rule}. Received: {listing.name!r}")
    split = make_split(listing, images, rows)
    split = replace(split, labels=_no_labels(data.train.labels, len(split)))
    digest = hashlib.sha256(f"{data.digest} {split.digest}".encode()).hexdigest()[:16]
    findings = (*data.findings, *listing.findings, *findings)
    return replace(data, unlabelled=split, digest=digest, findings=findings)


def has_label(labels: np.ndarray) -> np.ndarray:
    """Returns bool [N]: True for labels, int [N] or float [N, C], other than -1 and rows of NaN."""
    return labels >= 0 if np.issubdtype(labels.dtype, np.integer) else ~np.isnan(labels).any(1)


def _no_labels(like: np.ndarray, count: int) -> np.ndarray:
    """Returns -1, or rows of NaN, in the shape and dtype of other labels. The loss of `optimization/distillation.py` leaves them out."""
    nothing = -1 if np.issubdtype(like.dtype, np.integer) else np.nan
    return np.full((count, *like.shape[1:]), nothing, like.dtype)


def _without(listing: Listing, findings: list[Finding]) -> np.ndarray:
    named = {finding.path for finding in findings}
    return np.array([row for row, name in enumerate(listing.ids.tolist()) if name not in named], int)


def _find_copies(data: Splits, labelled: Listing, listing: Listing) -> list[Finding]:
    """Returns a finding for each image that is equal to a labelled one of the splits, or to an earlier one of the listing."""
    split_of = {name: part for part in SPLITS for name in getattr(data, part).ids.tolist()}
    known = {
        digest: f"{name} of {split_of[name]}"
        for name, digest in zip(labelled.ids.tolist(), labelled.pixel_digests.tolist())
        if name in split_of
    }
    findings = []
    for name, digest in zip(listing.ids.tolist(), listing.pixel_digests.tolist()):
        if digest in known:
            findings.append(Finding(name, "copy", "reject", f"the same image as {known[digest]}"))
        else:
            known[digest] = name
    return findings


def _find_held_out_groups(data: Splits, labelled: Listing, listing: Listing) -> list[Finding]:
    """Returns a finding for each image of a group (`--group_pattern`) that stands in val or test."""
    if labelled.groups is None or listing.groups is None:
        return []
    group_of = dict(zip(labelled.ids.tolist(), labelled.groups.tolist()))
    split_of = {group_of[name]: part for part in ("val", "test") for name in getattr(data, part).ids.tolist()}
    return [
        Finding(name, "group_copy", "reject", f"group {group!r} stands in {split_of[group]}")
        for name, group in zip(listing.ids.tolist(), listing.groups.tolist())
        if group in split_of
    ]


def _find_near_copies(data: Splits, split: Split, size: int) -> list[Finding]:
    """Returns a finding for each image of a split that is nearly one of val or test, directly or through a chain of others."""
    parts = (data.val, data.test, split)
    names = [f"{name} of {part}" for part in ("val", "test") for name in getattr(data, part).ids.tolist()]
    held_out, starts = len(names), np.cumsum([0, *map(len, parts)])

    def take(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), size, size, 3), np.uint8)
        for part, start in zip(parts, starts):
            inside = np.flatnonzero((rows >= start) & (rows < start + len(part)))
            if len(inside):
                found[inside] = pipeline.decoded_images(part, rows[inside] - start, size)
        return found

    count = int(starts[-1])
    # The sizes of the files are not known; 0 says so.
    found = image_measurements.make_empty(count)
    for start in range(0, count, IMAGES_PER_STEP):
        rows = np.arange(start, min(start + IMAGES_PER_STEP, count))
        image_measurements.measure(take(rows), found, rows.tolist())
    pairs, left_out = near_duplicates.find_pairs(found, take)
    group = near_duplicates.group(count, pairs)
    # The least row of a group is one of val or test, where it has any.
    return near_duplicates.describe_left_out("unlabelled:", left_out) + [
        Finding(str(name), "near_copy", "reject", f"in a group of near duplicates with {names[least]}")
        for name, least in zip(split.ids, group[held_out:])
        if least < held_out
    ]
