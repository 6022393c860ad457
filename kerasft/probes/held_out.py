"""Held-out predictions: what a probe says of training examples that it was not fitted on, for every example."""

import numpy as np

from kerasft.probes import folds, linear_probe, penalised_models
from kerasft.probes.linear_probe import Problem
from kerasft.probes.penalised_models import Fit


def predict(
    features: np.ndarray, labels: np.ndarray, outputs: int, task: str, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Predicts each example with a probe that was fitted on the other folds.

    Args:
        features: float32 [N, D], standardised.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T].
        outputs: C, or T.
        task: `single_label`, `multi_label` or `regression`.
        seed: of the folds.
        groups: int [N], or None. Examples of a group are held out together.

    Returns:
        float64 [N, C] probabilities, or [N, T] values. A row is NaN where nothing could be held out, such as that of the
        only example, or the only group, of a class; so is a label that does not vary. Of more than `folds.MAX_CV_EXAMPLES`
        examples, a label is also NaN where the fitted ones all have it, or all lack it.
    """
    with linear_probe.threads(features, outputs):
        problem = linear_probe.pose(features, labels, task, seed, None, groups=groups)
        found = linear_probe.validate(problem)
        rows, raw = found.rows, found.outputs
        if len(rows) > 0 and len(labels) > folds.MAX_CV_EXAMPLES:
            # The penalty was chosen on a sample; every example is held out under it.
            rows, raw = _hold_out_all(problem, found.alpha, folds.partition(len(labels), seed, groups))
    predicted = np.full((len(labels), outputs), np.nan)
    if not len(rows):
        return predicted
    if task == "regression":
        values = labels.astype(np.float64)
        predicted[rows] = raw * np.maximum(values.std(0), 1e-12) + values.mean(0)
    elif task == "multi_label":
        varied = np.flatnonzero((labels.min(0) < 0.5) & (labels.max(0) > 0.5))
        predicted[np.ix_(rows, varied)] = _sigmoid(raw)
    else:
        present = np.unique(labels)
        if problem.family == "logistic":
            second = _sigmoid(raw[:, 0])
            probabilities = np.stack([1 - second, second], 1)
        else:
            exponents = np.exp(raw - raw.max(1, keepdims=True))
            probabilities = exponents / exponents.sum(1, keepdims=True)
        # A class without an example has no probability.
        predicted[rows] = 0.0
        predicted[np.ix_(rows, present)] = probabilities
    return predicted


def _sigmoid(values: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(values)


def _hold_out_all(problem: Problem, alpha: float, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows int [N] in the order of the parts, and the probe's outputs for them, float64 [N, K].

    A row is NaN that has a class or label which no fitted example has, so is the label of the other rows. A probe knows nothing of
    them: it would be sure that such an image has other labels.
    """
    order, outputs = np.concatenate(parts), []
    width = problem.features.rows.shape[1]
    count = problem.targets.max() + 1 if problem.family == "softmax" else problem.targets.shape[1]
    # A class that a fold lacks keeps its column.
    start = Fit(np.zeros((width, count)), np.zeros(count))
    for held in parts:
        fitted = np.setdiff1d(order, held)
        squares = problem.features.squares * (len(fitted) / len(order))
        given = problem.features.rows[fitted], problem.targets[fitted], problem.family, alpha, squares
        found = penalised_models.fit(*given, start=start)
        raw = problem.features.rows[held].astype(np.float64) @ found.kernel + found.bias
        known, own = problem.targets[fitted], problem.targets[held]
        if problem.family == "softmax":
            raw[~np.isin(own, known)] = np.nan
        elif problem.family == "logistic":
            lost = known.min(0) == known.max(0)
            raw[:, lost] = np.nan
            raw[(own[:, lost] != known[0, lost]).any(1)] = np.nan
        outputs.append(raw)
    return order, np.concatenate(outputs)
