"""What evidence is made of, and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """What a network answers to the examples of a split.

    Attributes:
        task: `single_label`, `multi_label` or `regression`.
        classes: names of the C classes or the D targets.
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D].
        outputs: probabilities, float [N, C], or values, float [N, D].
        thresholds: float32 [C] for multi-label: from this probability on a class counts as present.
        thumbnails: from places in the split, int [B], to their images, uint8 [B, S, S, 3].
    """

    task: str
    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray | None
    thumbnails: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Section:
    """What a piece of evidence shows.

    Attributes:
        name: the key of its figures in `metrics.json`.
        figures: for `metrics.json`; empty where it adds none.
        context: what the report's template shows, by the template's own names. Of a task without such evidence the
            values are empty.
    """

    name: str
    figures: Mapping[str, Any]
    context: Mapping[str, Any]


# One function in one file of this room.
Evidence = Callable[[Predictions], Section]


def of(
    task: str, classes: list[str], arrays: Mapping[str, np.ndarray], thumbnails: Callable[[np.ndarray], np.ndarray]
) -> Predictions:
    """The Predictions that the arrays of `predictions.npz` hold."""
    outputs = arrays["values" if task == "regression" else "probabilities"]
    return Predictions(
        task, tuple(classes), arrays["ids"], arrays["labels"], outputs, arrays.get("thresholds"), thumbnails
    )
