"""The gallery of suspects: images of the findings that have a score, the most suspicious first, for a page."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasft.evidence.thumbnails import to_data_uri
from kerasft.storage import audit_file


class Kind(NamedTuple):
    """How a kind of finding is shown: its title, what it means, and how many cards there are at most."""

    title: str
    explanation: str
    cards: int = 6


# In the order of the page.
KINDS = {
    "suspect_label": Kind(
        "Labels that may be wrong",
        "A model that had not seen these images contradicts their labels. Some are only unusual.",
        12,
    ),
    "leak": Kind(
        "Leaks",
        "Nearly the same image, or the same group, stands on two sides of a split. Scores look better than they are.",
    ),
    "near_duplicate": Kind("Near duplicates", "Nearly the same image is there twice."),
    "group": Kind("Bursts", "Images of one scene. Name their groups, so that no split parts them."),
    "outlier": Kind("Outliers", "Images that are like no other."),
    "constant": Kind("Without content", "One colour."),
    "dark": Kind("Dark", "Hardly any light."),
    "bright": Kind("Bright", "Hardly anything but white."),
    "blurred": Kind("Blurred", "Hardly any edges."),
    "extreme_proportions": Kind("Extreme proportions", "Much of them is lost, or squeezed: see --framing."),
    "low_resolution": Kind("Low resolution", "Much smaller than the others."),
}


def make(folder: Path, findings: list[dict], by_path: Callable[[list[str]], list[np.ndarray]] | None) -> dict[str, Any]:
    """Returns the variables of the template: `gallery` (title, explanation, cards, n) and `suspects_file`.

    Args:
        folder: of the run.
        findings: of `audit.json`.
        by_path: from paths to images, uint8 [S, S, 3] each. Only the images that are shown are asked for.
    """
    rows = defaultdict(list)
    for row in findings if by_path else ():
        if "score" in row and row["kind"] in KINDS:
            rows[row["kind"]].append(row)
    kinds = []
    for kind, (title, explanation, most) in KINDS.items():
        if chosen := sorted(rows[kind], key=lambda row: -row["score"])[:most]:
            cards = [_card(row, by_path) for row in chosen]
            kinds.append({"title": title, "explanation": explanation, "cards": cards, "n": len(rows[kind])})
    return {"gallery": kinds, "suspects_file": (folder / audit_file.SUSPECTS_NAME).as_posix()}


def _card(row: dict, by_path: Callable[[list[str]], list[np.ndarray]]) -> dict[str, Any]:
    """Returns the card of a finding: its image, and next to it the other one that it names."""
    paths = [row["path"], *([row["other"]] if "other" in row else [])]
    images = [to_data_uri(pixels) for pixels in by_path(paths)]
    return {"images": images, "file": row["path"], "detail": row["detail"], "alt": f"{row['path']}: {row['detail']}"}
