"""The paired comparison of two runs on the same test images, from their `predictions.npz`."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kerasft.evaluation import intervals
from kerasft.evaluation.pinball import judged_errors

Arrays = Mapping[str, np.ndarray]

# Answers that differ by no more than this, of the largest one of their class or target, are the same: float32 numbers were added in another order.
ROUNDING = 1e-6


class Difference(NamedTuple):
    """A difference, second run less first, and its 95 % interval.

    Attributes:
        value: the difference on the images that both runs have scored.
        low, high: the ends; NaN where the images cannot tell.
    """

    value: float
    low: float
    high: float


def as_json(difference: Difference) -> list[float | None]:
    """Returns the three numbers as JSON takes them: None where the images cannot tell."""
    return [value if np.isfinite(value) else None for value in difference]


class Paired(NamedTuple):
    """What the second run has more than the first.

    Attributes:
        score: of accuracy, mean average precision, mean absolute error, or the mean pinball loss of a quantile.
        loss: of the mean loss.
        n: images that both have scored.
        same: whether both answer each of them with the same numbers, but for rounding. Then there is nothing to estimate.
    """

    score: Difference
    loss: Difference
    n: int
    same: bool = False


def compare(
    task: str, first: Arrays, second: Arrays, units: np.ndarray | None = None, quantile: float | None = None
) -> Paired:
    """Compares two runs image by image.

    The interval of accuracy is Bonett and Price's for paired proportions, and Student's for means of losses and errors. That of
    mean average precision is a bootstrap that draws the same images for both runs. Images of one group are no independent
    draws, so groups are counted.

    Args:
        task: `single_label`, `multi_label` or `regression`.
        first, second: the arrays of `predictions.npz`, with `losses`, and with `groups` if images belong together.
        units: float [D], by which errors of values are divided; None for 1.
        quantile: whose pinball loss judges values; None for the absolute error.
    """
    # Copies are found in decoded images. So runs with other image sizes may have left out others.
    _, places, other_places = np.intersect1d(first["ids"], second["ids"], return_indices=True)
    first, second = _rows(first, places), _rows(second, other_places)
    n = len(places)
    if not n:
        unknown = Difference(np.nan, np.nan, np.nan)
        return Paired(unknown, unknown, 0)
    outputs = "values" if task == "regression" else "probabilities"
    # The interval of such differences would exclude 0. Targets may have different units.
    if (np.abs(first[outputs] - second[outputs]) <= ROUNDING * np.abs(second[outputs]).max(0)).all():
        nothing = Difference(0.0, 0.0, 0.0)
        return Paired(nothing, nothing, n, same=True)
    # Early runs did not record them.
    groups = second.get("groups", first.get("groups"))
    loss = _mean_difference(second["losses"].astype(np.float64) - first["losses"], groups)
    if task == "single_label":
        right = [run["probabilities"].argmax(-1) == run["labels"] for run in (first, second)]
        value = float(right[1].mean() - right[0].mean())
        return Paired(Difference(value, *intervals.paired_difference(*right, groups)), loss, n)
    if task == "multi_label":
        one, other = (intervals.average_precisions(run["probabilities"], run["labels"]) for run in (first, second))

        def gained(weights: np.ndarray) -> float:
            return _mean(other(weights)) - _mean(one(weights))

        value, found = gained(np.ones(n)), intervals.bootstrap(gained, n, 2 * first["labels"].shape[1], groups=groups)
        return Paired(Difference(value, *found.centred(value, -1.0, 1.0)), loss, n)
    scale = 1.0 if units is None else units
    gaps = [(run["labels"].astype(np.float64) - run["values"]) / scale for run in (first, second)]
    errors = [judged_errors(gap, quantile).mean(-1) for gap in gaps]
    return Paired(_mean_difference(errors[1] - errors[0], groups), loss, n)


def loss_interval(arrays: Arrays) -> tuple[float, float]:
    """The 95 % interval of the mean of `losses`."""
    losses = arrays["losses"].astype(np.float64)
    # Few losses have a negative value, such as those of Keras that are similarities.
    return intervals.mean_interval(losses, arrays.get("groups"), least=min(0.0, float(losses.sum())))


def _rows(arrays: Arrays, places: np.ndarray) -> dict[str, np.ndarray]:
    names = [name for name in ("labels", "losses", "probabilities", "values", "groups") if name in arrays]
    return {name: arrays[name][places] for name in names}


def _mean_difference(gaps: np.ndarray, groups: np.ndarray | None) -> Difference:
    return Difference(float(gaps.mean()), *intervals.mean_interval(gaps, groups))


def _mean(values: np.ndarray) -> float:
    """The mean over the classes that have an image; NaN if none has."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else np.nan
