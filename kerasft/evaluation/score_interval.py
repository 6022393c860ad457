"""The 95 % interval of a run's test score: Wilson's for accuracy, and a bootstrap over the images for other scores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasft.evaluation import intervals


class ScoreInterval(NamedTuple):
    """A score and the ends of its interval. All are None where nothing can be measured, and the ends NaN where they cannot."""

    value: float | None
    low: float | None
    high: float | None


def score_interval(
    task: str, test: Mapping[str, Any], arrays: Mapping[str, np.ndarray], classes: Sequence[str]
) -> ScoreInterval:
    """The interval of accuracy, mean average precision or mean absolute error.

    The error of a single target is in its units. With several targets, which may have different units, each error is
    divided by the standard deviation of its target.

    Args:
        task: `single_label`, `multi_label` or `regression`.
        test: the test metrics, as in `metrics.json`.
        arrays: of `predictions.npz`.
        classes: names of the classes, labels or targets.
    """
    n, labels = test["n"], arrays["labels"]
    if task == "single_label":
        return ScoreInterval(test["accuracy"], *intervals.wilson(round(test["accuracy"] * n), n))
    if task == "multi_label":
        if not labels.any():
            return ScoreInterval(None, None, None)
        precisions, cost = intervals.average_precisions(arrays["probabilities"], labels), labels.shape[1]
        ends = intervals.bootstrap(lambda weights: _finite_mean(precisions(weights)), n, cost=cost)
        return ScoreInterval(test["map"], *ends)
    labels = labels.astype(np.float64)
    errors = (np.abs(arrays["values"] - labels) / target_units(test, labels, classes)).mean(-1)
    return ScoreInterval(
        float(errors.mean()), *intervals.bootstrap(lambda weights: float((weights * errors).mean()), n)
    )


def target_units(test: Mapping[str, Any], labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Returns the unit of each target's error, float64 [D]: 1 for a single target, else its standard deviation."""
    if len(classes) == 1:
        return np.ones(1)
    # That of the training labels, as in the scores of the phases. Old runs did not record it: then that of the test labels.
    deviations = [test["per_target"][name].get("deviation") for name in classes]
    units = np.array([recorded or own for recorded, own in zip(deviations, labels.std(0))])
    return np.where(units > 0, units, 1.0)


def _finite_mean(values: np.ndarray) -> float:
    """Returns the mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else np.nan
