"""Images that are dark, bright, blurred, without content, of extreme proportions, or much smaller than the others.

The rules are those of CleanVision 0.3.7 where a comment says so, on the decoded square instead of the file. What holds for many
images is the nature of the data, and is said once.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kerasft.data.image_measurements import Measures
from kerasft.data.listing import Finding, Listing

# CleanVision: the 99th percentile of the brightness is below this.
MAX_DARK = 0.32
# CleanVision: the 5th percentile of the brightness is above this.
MIN_BRIGHT = 0.95
# The standard deviation of the grey levels is below this.
MAX_CONSTANT = 3.0
# The deviation of the Laplacian, divided by that of the grey levels, is below this. (CleanVision does not divide, and so
# names sharp images of a small subject before a soft background.)
MAX_BLURRED = 0.25
# Of a smaller image nothing is known about blur: it is enlarged.
MIN_BLUR_SIDE = 64
# CleanVision: the shorter side, divided by the longer one, is below this.
MAX_PROPORTION = 0.35
# The shorter side, divided by the median of all, is below this.
MAX_SMALL = 0.25
# More images of a kind than this share, and this number, are not listed one by one.
MAX_SHARE, MAX_COUNT = 0.1, 10


class Rule(NamedTuple):
    """One kind of finding.

    Attributes:
        kind: of the finding.
        flagged: bool [N].
        scores: float [N] in [0, 1].
        detail: index of an image to what was measured.
        all_detail: what it means where many images are flagged.
    """

    kind: str
    flagged: np.ndarray
    scores: np.ndarray
    detail: Callable[[int], str]
    all_detail: str


def find_quality(listing: Listing, found: Measures) -> list[Finding]:
    """Returns a warning for each image that a rule flags, by kind, the most suspicious first."""
    findings = []
    for rule in _rules(found):
        rows = np.flatnonzero(rule.flagged)
        if len(rows) > max(MAX_COUNT, MAX_SHARE * len(listing.ids)):
            detail = f"{len(rows):,} of {len(listing.ids):,} images: {rule.all_detail}"
            findings.append(Finding("all files", rule.kind, "warn", detail))
            continue
        for row in rows[np.argsort(-rule.scores[rows], kind="stable")]:
            score = round(float(np.clip(rule.scores[row], 0, 1)), 4)
            findings.append(Finding(str(listing.ids[row]), rule.kind, "warn", rule.detail(row), score))
    return findings


def _rules(found: Measures) -> Iterator[Rule]:
    low, _, high = found.brightness.T
    constant = found.contrast < MAX_CONSTANT
    dark, bright = (high < MAX_DARK) & ~constant, (low > MIN_BRIGHT) & ~constant
    yield Rule(
        "constant",
        constant,
        1 - found.contrast / 255,
        lambda row: f"one colour: grey levels differ by {found.contrast[row]:.1f} of 255 (standard deviation)",
        "one colour each",
    )
    yield Rule(
        "dark",
        dark,
        1 - high,
        lambda row: f"99 % of the pixels have a brightness below {high[row]:.2f} of 1",
        "this seems to be their nature",
    )
    yield Rule(
        "bright",
        bright,
        low,
        lambda row: f"95 % of the pixels have a brightness above {low[row]:.2f} of 1",
        "this seems to be their nature",
    )
    sharpness = np.sqrt(found.edges) / np.maximum(found.contrast, 1)
    shorter, longer = found.sizes.min(1), found.sizes.max(1)
    yield Rule(
        "blurred",
        (sharpness < MAX_BLURRED) & (shorter >= MIN_BLUR_SIDE) & ~(constant | dark | bright),
        1 - sharpness,
        lambda row: f"hardly any edges: sharpness {sharpness[row]:.2f}, of sharp images 0.4 or more",
        "this seems to be their nature",
    )
    proportion = shorter / np.maximum(longer, 1)
    yield Rule(
        "extreme_proportions",
        (proportion < MAX_PROPORTION) & (longer > 0),
        1 - proportion,
        lambda row: f"{found.sizes[row][0]}x{found.sizes[row][1]} pixels; --framing says what becomes of it",
        "look at --framing",
    )
    known = shorter[shorter > 0]
    relative = shorter / max(float(np.median(known)), 1.0) if len(known) else np.ones(len(shorter))
    yield Rule(
        "low_resolution",
        (relative < MAX_SMALL) & (shorter > 0) & (proportion >= MAX_PROPORTION),
        1 - relative,
        lambda row: (
            f"{found.sizes[row][0]}x{found.sizes[row][1]} pixels, against {np.median(known):.0f} of most (shorter side)"
        ),
        "sizes differ much",
    )
