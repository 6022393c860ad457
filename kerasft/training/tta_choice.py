"""`--tta`: whether what is served is averaged over an image and its mirror image, by the losses on validation."""

from typing import Any, NamedTuple

import numpy as np

from kerasft.console import console
from kerasft.evaluation import intervals
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer

CHOICES = ("none", "flip")


class TtaChoice(NamedTuple):
    """One of `CHOICES`, why, and what was measured of each: `choice`, `loss`, `accuracy` (of single labels)."""

    tta: str
    reason: str
    table: list[dict[str, Any]]


def choose(tta: str, scorer: Scorer, plain: np.ndarray, averaged: np.ndarray) -> TtaChoice:
    """`auto` mirrors if that lowers the validation loss by more than a standard error of the difference, image by image.

    Args:
        tta: `flip` or `auto`.
        scorer: of the validation split.
        plain: float32 [N, ...], the outputs for its images.
        averaged: the mean with the outputs for their mirror images.
    """
    losses = [scorer.losses(outputs) for outputs in (plain, averaged)]
    table = [{"choice": name, "loss": float(values.mean())} for name, values in zip(CHOICES, losses)]
    if scorer.task == "single_label":
        for row, outputs in zip(table, (plain, averaged)):
            row["accuracy"] = scorer.score(outputs)
    if tta == "flip":
        return TtaChoice(tta, "as --tta says", table)
    if len(plain) < MIN_VALIDATION_IMAGES:
        reason = f"{len(plain)} validation images cannot tell (needed: {MIN_VALIDATION_IMAGES})"
        return TtaChoice("none", reason, table)
    gap = losses[0] - losses[1]
    gain, error = gap.mean(), intervals.standard_error(gap)
    found = f"the mean over mirror images changes the validation loss by {console.format_metric(-gain)}, "
    found += f"standard error {console.format_metric(error)}"
    return TtaChoice("flip" if gain > error else "none", found, table)
