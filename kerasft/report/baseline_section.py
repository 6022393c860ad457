"""The section of the report about a served model (`--baseline`): differences, classes, images that flipped, the gate."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.console.wording import count, number, percent, signed
from kerasft.evaluation.gate import Both, flips
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_names import TITLES, formatter, of_targets, recorded_score
from kerasft.evidence.thumbnails import to_data_uri
from kerasft.storage import baseline_file

# At most so many images that flipped are shown, of each direction.
MAX_SHOWN = 12


def describe_reason(row: Mapping[str, Any]) -> str:
    """One reason of the gate in words: `accuracy of class 'rose': 0.900 then, 0.700 now (10 test images, ...)`."""
    error = row["standard_error"]
    beyond = f", {abs(row['difference']) / error:.1f} standard errors" if error else ""
    figures = f"{number(row['before'])} then, {number(row['after'])} now"
    return f"{row['what']}: {figures} ({count(row['n'], 'test image')}{beyond})"


def section(metrics: Mapping[str, Any], folder: Path, images: Callable[[np.ndarray], np.ndarray]) -> dict | None:
    """The variables of the report's section; None for a run without `--baseline`.

    Args:
        metrics: as in `metrics.json`.
        folder: of the run, with `baseline.npz`.
        images: from positions in the test split, int [B], to images, uint8 [B, S, S, 3].
    """
    found = metrics.get("baseline")
    if not found or not (folder / baseline_file.NAME).is_file():
        return None
    task, both, score = metrics["task"], baseline_file.read(folder), recorded_score(found["before"])
    shown = [formatter(score), number]
    overall = [
        (
            title,
            show(found["before"][name]),
            show(found["after"][name]),
            signed(gap[0]) + (f" ({signed(gap[1])} to {signed(gap[2])})" if None not in gap else ""),
        )
        for title, name, show, gap in zip(
            (TITLES[of_targets(score, len(metrics["classes"]))], "loss"),
            (score, "loss"),
            shown,
            (found["difference"], found["loss_difference"]),
            strict=True,
        )
        # The absolute error of a quantile judges nothing. Earlier versions recorded it.
        if name != "mae" or asked_quantile(metrics["test"]) is None
    ]
    show = number if task == "regression" else percent
    changed = sorted(
        ((name, row) for name, row in found["classes"].items() if row["difference"]),
        key=lambda item: item[1]["difference"] * (-1 if task == "regression" else 1),
    )
    classes = [
        (
            name,
            [show(row["before"]), show(row["after"]), signed(row["difference"]), number(row["standard_error"])],
            f"{row['n']:,}",
            row["worse"],
        )
        for name, row in changed
    ]
    parts = []
    for title, rows in zip(("Right before, wrong now", "Wrong before, right now"), flips(task, both), strict=True):
        rows = rows[:MAX_SHOWN]
        pixels = images(rows) if len(rows) else []
        cards = [_card(task, metrics["classes"], both, int(row), image) for row, image in zip(rows, pixels)]
        parts.append((title, cards))
    counts = (found["lost"], found["gained"])
    return {
        "path": found["path"],
        "overall": overall,
        "classes": classes,
        "same_classes": len(found["classes"]) - len(classes),
        "flips": [(title, n, cards) for (title, cards), n in zip(parts, counts, strict=True)],
        "reasons": [describe_reason(row) for row in found["gate"]["reasons"]],
        "asked": found["asked"],
        "rule": found["gate"]["rule"],
        "same": found["same"],
        "n": found["n"],
        "published": metrics["export"].get("published", True),
    }


def _card(task: str, classes: list[str], both: Both, row: int, pixels: np.ndarray) -> dict[str, Any]:
    """A card of an image that flipped, in lines of (what, name, value)."""
    if task == "single_label":
        lines = [("labelled", classes[both.labels[row]], "")]
        for what, side in (("then", both.before), ("now", both.after)):
            guess = int(side.answers[row].argmax())
            lines.append((what, classes[guess], percent(side.answers[row, guess])))
    else:
        truth, lines = both.labels[row] > 0, []
        for what, side in (("then", both.before), ("now", both.after)):
            for index in np.flatnonzero(side.predicted[row] != truth)[:2]:
                word = "missed" if truth[index] else "wrongly given"
                lines.append((f"{what} {word}", classes[index], percent(side.answers[row, index])))
    file = str(both.ids[row])
    alt = f"{file}: " + ", ".join(" ".join(filter(None, line)) for line in lines)
    return {"image": to_data_uri(pixels), "file": file, "lines": lines, "alt": alt}
