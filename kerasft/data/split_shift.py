"""Splits that differ: images of val or test that are much brighter, darker, larger or smaller than those of train."""

import numpy as np

from kerasft.data.image_measurements import Measures
from kerasft.data.listing import SPLITS, Finding, Listing

# A difference of the means, in pooled standard deviations (Cohen's d), from which it counts; 0.8 is called large.
MIN_EFFECT = 0.8
# A split of fewer images tells nothing.
MIN_IMAGES = 20
# The difference must be so many times its standard error.
MIN_STANDARD_ERRORS = 5.0


def find_shift(listing: Listing, found: Measures) -> list[Finding]:
    """Returns a warning for each split of the source and each measure that differs from train."""
    sides = found.sizes.min(1)
    traits = {
        "brightness": (found.brightness[:, 1], lambda value: f"{value:.2f} of 1"),
        "contrast": (found.contrast, lambda value: f"{value:.0f} of 255"),
        # Sizes are compared by their ratio.
        "size": (np.log(np.maximum(sides, 1)), lambda value: f"{np.exp(value):.0f} pixels (shorter side)"),
    }
    findings, train = [], listing.split_names == "train"
    for split in SPLITS[1:]:
        rows = listing.split_names == split
        if min(rows.sum(), train.sum()) < MIN_IMAGES:
            continue
        for name, (values, show) in traits.items():
            ours, theirs = values[rows].astype(np.float64), values[train].astype(np.float64)
            gap, spread = ours.mean() - theirs.mean(), np.sqrt((ours.var() + theirs.var()) / 2)
            error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
            if abs(gap) > max(MIN_EFFECT * spread, MIN_STANDARD_ERRORS * error, 1e-3):
                detail = f"mean {name} {show(ours.mean())}, that of train {show(theirs.mean())}"
                findings.append(Finding(f"{split}/", "split_shift", "warn", detail))
    return findings
