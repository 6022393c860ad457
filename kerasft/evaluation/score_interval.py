"""The 95 % interval of a run's test score: Wilson's for accuracy, a bootstrap for mAP, Student's for errors of values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasft.evaluation import intervals
from kerasft.evaluation.pinball import judged_errors


class ScoreInterval(NamedTuple):
    """A score and the ends of its interval. The ends are None where the images cannot tell them, the score where it has none."""

    value: float | None
    low: float | None = None
    high: float | None = None


def score_interval(
    task: str,
    test: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    classes: Sequence[str],
    quantile: float | None = None,
) -> ScoreInterval:
    """The interval of accuracy, mean average precision or mean absolute error, or of the mean pinball loss of a quantile.

    The error of a single target is in its units. With several targets, which may have different units, each error is
    divided by the standard deviation of its target. Images of one group are no independent draws, so groups are counted.

    Args:
        task: `single_label`, `multi_label` or `regression`.
        test: the test metrics, as in `metrics.json`.
        arrays: of `predictions.npz`, with `groups` if images belong together.
        classes: names of the classes, labels or targets.
        quantile: whose pinball loss judges regression; None for the absolute error.
    """
    labels, groups = arrays["labels"], arrays.get("groups")
    if task == "single_label":
        n = test["n"]
        if groups is None:
            ends = intervals.wilson(round(test["accuracy"] * n), n)
        else:
            ends = intervals.share_interval(arrays["probabilities"].argmax(-1) == labels, groups)
        return _known(test["accuracy"], ends)
    if task == "multi_label":
        if not labels.any():
            return ScoreInterval(None)
        precisions, cost = intervals.average_precisions(arrays["probabilities"], labels), labels.shape[1]
        found = intervals.bootstrap(
            lambda weights: _finite_mean(precisions(weights)), len(labels), cost=cost, groups=groups
        )
        return _known(test["map"], found.centred(test["map"], 0.0, 1.0))
    errors = value_errors(test, arrays, classes, quantile)
    return _known(float(errors.mean()), intervals.mean_interval(errors, groups, least=0.0))


def value_errors(
    test: Mapping[str, Any], arrays: Mapping[str, np.ndarray], classes: Sequence[str], quantile: float | None = None
) -> np.ndarray:
    """The error of each image under regression, float64 [N]: absolute, or the pinball loss of a quantile; units as above."""
    labels = arrays["labels"].astype(np.float64)
    gaps = (labels - arrays["values"]) / target_units(test, labels, classes)
    return judged_errors(gaps, quantile).mean(-1)


def _known(value: float, ends: tuple[float, float]) -> ScoreInterval:
    return ScoreInterval(value, *ends) if np.isfinite(ends).all() else ScoreInterval(value)


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
