"""The inspection of audited images: everything that is found by comparing decoded images, without a network."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kerasft.data import duplicates, groups, image_quality, near_duplicates, split_shift
from kerasft.data.image_measurements import Measures
from kerasft.data.listing import Finding, Listing


def inspect(listing: Listing, found: Measures, take: Callable[[np.ndarray], np.ndarray]) -> Listing:
    """Returns the listing with findings about its images, and with its near duplicates.

    Args:
        listing: audited examples.
        found: their measures.
        take: rows [B] to decoded images, uint8 [B, S, S, 3].
    """
    # Of equal images, the first of the earliest split stands for all.
    order = np.lexsort((np.arange(len(listing.ids)), duplicates.split_orders(listing.split_names)))
    _, places, equal = np.unique(listing.pixel_digests[order], return_index=True, return_inverse=True)
    representatives, of_row = order[places], np.empty(len(order), int)
    of_row[order] = equal
    measured = found.take(representatives)
    pairs, left_out = near_duplicates.find_pairs(measured, lambda rows: take(representatives[rows]))
    pairs = [
        pair._replace(first=int(representatives[pair.first]), second=int(representatives[pair.second]))
        for pair in pairs
    ]
    near = near_duplicates.group(len(listing.ids), [*pairs, *_connect_equal(of_row, representatives)])
    findings = [
        *duplicates.find_duplicates(listing),
        *_describe_pairs(listing, pairs),
        *near_duplicates.describe_left_out("all files", left_out),
        *groups.find_broken(listing),
        *groups.find_chains(listing, near),
        *image_quality.find_quality(listing, found),
        *split_shift.find_shift(listing, found),
    ]
    return replace(listing, findings=(*listing.findings, *findings), near_groups=near)


def _connect_equal(of_row: np.ndarray, representatives: np.ndarray) -> list[near_duplicates.Pair]:
    firsts = representatives[of_row]
    return [
        near_duplicates.Pair(int(firsts[row]), row, 1.0) for row in np.flatnonzero(firsts != np.arange(len(firsts)))
    ]


def _describe_pairs(listing: Listing, pairs: list[near_duplicates.Pair]) -> list[Finding]:
    """Returns a finding for each image that is nearly the same as an earlier one, the most alike first.

    An image with several gets the one in an earlier split, or else the most alike.
    """
    splits = duplicates.split_orders(listing.split_names)
    best: dict[int, tuple[bool, float, int]] = {}
    for first, second, correlation in pairs:
        # The later one is named: by split, then by place.
        earlier, later = sorted((first, second), key=lambda row: (splits[row], row))
        ranked = (bool(splits[earlier] < splits[later]), correlation, earlier)
        best[later] = max(best.get(later, ranked), ranked)
    findings = []
    for row, (crosses, correlation, other) in sorted(best.items(), key=lambda item: -item[1][1]):
        conflict = (listing.labels[row] != listing.labels[other]).any()
        detail = f"nearly the same image as {listing.ids[other]} (correlation {correlation:.3f})"
        detail += ", under another label" if conflict else ""
        kind = "leak" if crosses else "near_duplicate"
        findings.append(
            Finding(str(listing.ids[row]), kind, "warn", detail, round(correlation, 4), other=str(listing.ids[other]))
        )
    return findings
