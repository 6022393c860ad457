"""The input of evidence, `Predictions`, and its output, `Section`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for a split.

    Attributes:
        task: `single_label`, `multi_label` or `regression`.
        classes: names of the C classes or the D targets.
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D].
        outputs: probabilities, float [N, C], or values, float [N, D].
        thresholds: float32 [C] for multi-label: a class is predicted from this probability on; else None.
        images: a function from positions in the split, int [B], to images, uint8 [B, S, S, 3].
    """

    task: str
    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    thresholds: np.ndarray | None
    images: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Section:
    """The output of a piece of evidence.

    Attributes:
        name: the key of its figures in `metrics.json`.
        figures: for `metrics.json`; empty if it adds none.
        context: the variables of the report's template. Their values are empty for a task without this evidence.
    """

    name: str
    figures: Mapping[str, Any]
    context: Mapping[str, Any]


# A piece of evidence is such a function.
Evidence = Callable[[Predictions], Section]


def from_arrays(
    task: str, classes: list[str], arrays: Mapping[str, np.ndarray], images: Callable[[np.ndarray], np.ndarray]
) -> Predictions:
    """Makes Predictions from the arrays of `predictions.npz`."""
    outputs = arrays["values" if task == "regression" else "probabilities"]
    return Predictions(task, tuple(classes), arrays["ids"], arrays["labels"], outputs, arrays.get("thresholds"), images)
