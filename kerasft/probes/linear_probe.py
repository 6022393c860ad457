"""The linear probe: the last layer solved on frozen features, its penalty chosen by cross-validation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from kerasft.evaluation.scoring import one_standard_error_rule
from kerasft.probes import folds, penalised_models
from kerasft.probes.head_statistics import log_odds
from kerasft.probes.penalised_models import Fit, Rotated, SoftTargets

# Part of the key of kept solutions. To be raised where `solve` comes to another kernel or bias.
SOLVER_VERSION = 4

# Penalties that are tried, the strongest first: `alpha`, which is 1 / C in scikit-learn's words.
PENALTIES = 10.0 ** np.arange(4, -2.5, -0.5)

# Standard errors by which the loss of a stronger penalty may be above the lowest: few examples make lucky folds.
PENALTY_STANDARD_ERRORS = 0.5

# Weaker penalties are tried until so many in a row have not lowered the held-out loss.
FRUITLESS_PENALTIES = 2

# The penalty where nothing can be held out: a strong one.
STRONG_PENALTY = 100.0

# Multiplications of a step up to which one thread is as fast as several, and every fit is solved to its end.
MAX_SINGLE_THREAD_MACS = 1e8


class Solution(NamedTuple):
    """A solved last layer: kernel float32 [D, C], bias float32 [C], and the penalty in words."""

    kernel: np.ndarray
    bias: np.ndarray
    penalty: str


class Problem(NamedTuple):
    """A last layer to be solved.

    Attributes:
        features: float32 [N, D], rotated.
        targets: of the penalised model, for the outputs that vary.
        family: of the penalised model.
        folds: pairs (fitted, held) of rows.
        weights: float [N] of the examples, or None.
        soft_targets: what a teacher answers to them, for the outputs that vary, or None.
    """

    features: Rotated
    targets: np.ndarray
    family: str
    folds: list[tuple[np.ndarray, np.ndarray]]
    weights: np.ndarray | None
    soft_targets: SoftTargets | None = None


class Validation(NamedTuple):
    """What cross-validation found.

    Attributes:
        alpha: the chosen penalty.
        rows: int [n], the examples that were held out in turn; empty where nothing could be.
        outputs: float64 [n, C], what the probe that was not fitted on them gives for them.
        losses: float64 [n].
    """

    alpha: float
    rows: np.ndarray
    outputs: np.ndarray
    losses: np.ndarray


NOTHING_HELD_OUT = Validation(STRONG_PENALTY, np.empty(0, int), np.empty((0, 0)), np.empty(0))


def solve(
    features: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    task: str,
    seed: int,
    weights: np.ndarray | None = None,
    soft_targets: SoftTargets | None = None,
    groups: np.ndarray | None = None,
) -> Solution:
    """Solves the last layer on frozen features, its L2 penalty chosen by cross-validation.

    Softmax regression for single labels, logistic regression of each class against the rest for several, ridge
    regression of standardised targets for values.

    Args:
        features: float32 [N, D], standardised.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T].
        outputs: C, or T.
        task: `single_label`, `multi_label` or `regression`.
        seed: of the folds.
        weights: float [N] of the examples, or None.
        soft_targets: what a teacher answers to all examples, for all outputs, in the units of the labels; or None. The penalty
            is chosen without it, for it has learned the held-out examples too.
        groups: int [N], or None. Examples of a group are held out together.
    """
    with threads(features, outputs):
        problem = pose(features, labels, task, seed, weights, soft_targets, groups)
        return solve_problem(problem, labels, outputs, task, validate(problem).alpha)


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    task: str,
    seed: int,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[Validation, float | None]:
    """How well a probe of these features does on training examples that it was not fitted on, and its accuracy on these.

    Arguments as in `solve`; the accuracy is None but for single labels.

    The folds depend on the labels, the groups and the seed only, so losses of different features are paired.
    """
    with threads(features, outputs):
        problem = pose(features, labels, task, seed, weights, groups=groups)
        found = validate(problem)
    return found, held_out_accuracy(problem, found.rows, found.outputs) if len(found.rows) else None


def threads(features: np.ndarray, outputs: int) -> AbstractContextManager:
    """Limits BLAS to one thread for small problems. With two threads they took ten times as long."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if features.size * outputs < MAX_SINGLE_THREAD_MACS else None)


def pose(
    features: np.ndarray,
    labels: np.ndarray,
    task: str,
    seed: int,
    weights: np.ndarray | None,
    soft_targets: SoftTargets | None = None,
    groups: np.ndarray | None = None,
    pairs: list[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Problem:
    """The problem that `solve` solves. Arguments as there.

    Args:
        pairs: the folds of the same labels, seed and groups, where they are drawn already.
    """
    rotated = penalised_models.rotate(features)
    if task == "single_label":
        present, places = np.unique(labels, return_inverse=True)
        if pairs is None:
            rows = folds.sample(places, seed)
            pairs = folds.stratified(places, rows, seed, groups)[: 1 if len(labels) > folds.MAX_CV_EXAMPLES else None]
        # A class without an example gets no share of an answer.
        soft_targets = _changed_answers(soft_targets, lambda answers: _sum_to_one(answers[:, present]))
        if len(present) == 2:
            soft_targets = _changed_answers(soft_targets, lambda answers: answers[:, 1:])
            return Problem(rotated, places[:, None].astype(np.float64), "logistic", pairs, weights, soft_targets)
        return Problem(rotated, places, "softmax", pairs if len(present) > 1 else [], weights, soft_targets)
    if task == "regression":
        soft_targets = _changed_answers(soft_targets, lambda answers: _standard(answers, labels))
        pairs = folds.plain(len(labels), seed, groups) if pairs is None else pairs
        return Problem(rotated, _standard(labels), "squared", pairs, weights, soft_targets)
    varied = labels[:, _varied(labels)].astype(np.float64)
    if pairs is None:
        pairs = folds.multi_label(varied, seed, groups) if varied.size else []
    soft_targets = _changed_answers(soft_targets, lambda answers: answers[:, _varied(labels)])
    return Problem(rotated, varied, "logistic", pairs, weights, soft_targets)


def _changed_answers(
    soft_targets: SoftTargets | None, change: Callable[[np.ndarray], np.ndarray]
) -> SoftTargets | None:
    return soft_targets and soft_targets._replace(answers=change(soft_targets.answers.astype(np.float64)))


def _sum_to_one(answers: np.ndarray) -> np.ndarray:
    answers = np.maximum(answers, penalised_models.MIN_PROBABILITY)
    return answers / answers.sum(1, keepdims=True)


def validate(problem: Problem) -> Validation:
    """Chooses the strongest penalty whose held-out losses are near the lowest, by the labels alone."""
    if not problem.folds:
        return NOTHING_HELD_OUT
    # Each goes on from the last penalty.
    fits: list[Fit | None] = [None] * len(problem.folds)
    fitted_rows = [problem.features.rows[fitted] for fitted, _ in problem.folds]
    held = np.concatenate([held for _, held in problem.folds])
    outputs, losses = [], []
    for alpha in PENALTIES:
        outputs.append(_held_out(problem, fitted_rows, fits, float(alpha)))
        losses.append(held_out_losses(problem, held, outputs[-1]))
        best = int(np.argmin([each.mean() for each in losses]))
        if len(losses) - 1 - best >= FRUITLESS_PENALTIES:
            break
    chosen = one_standard_error_rule(losses, PENALTY_STANDARD_ERRORS)
    return Validation(float(PENALTIES[chosen]), held, outputs[chosen], losses[chosen])


def _held_out(problem: Problem, fitted_rows: list[np.ndarray], fits: list[Fit | None], alpha: float) -> np.ndarray:
    """Outputs for the held-out examples of all folds; `fits` are replaced."""
    found = []
    for index, (fitted, held) in enumerate(problem.folds):
        squares = problem.features.squares * (len(fitted) / len(problem.features.rows))
        weights = None if problem.weights is None else problem.weights[fitted]
        given = fitted_rows[index], problem.targets[fitted], problem.family, alpha, squares
        # By the labels alone: a teacher has learned the held-out images too, and whoever imitates it seems to know them.
        fits[index] = penalised_models.fit(*given, weights=weights, start=fits[index])
        found.append(problem.features.rows[held].astype(np.float64) @ fits[index].kernel + fits[index].bias)
    return np.concatenate(found)


def held_out_losses(problem: Problem, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The losses float64 [n] of outputs [n, C] for some examples of a problem."""
    from scipy.special import log_softmax

    targets = problem.targets[rows]
    if problem.family == "softmax":
        losses = np.minimum(-log_softmax(outputs, -1)[np.arange(len(targets)), targets], -np.log(1e-12))
    elif problem.family == "logistic":
        losses = (np.logaddexp(0, outputs) - targets * outputs).mean(-1)
    else:
        losses = np.square(outputs - targets).mean(-1)
    return losses if problem.weights is None else losses * problem.weights[rows]


def held_out_accuracy(problem: Problem, rows: np.ndarray, outputs: np.ndarray) -> float | None:
    """The share of some examples whose class is the likeliest; None but for single labels."""
    targets = problem.targets[rows]
    if problem.family == "softmax":
        return float((outputs.argmax(-1) == targets).mean())
    if problem.family == "logistic" and targets.shape[1] == 1:
        return float(((outputs > 0) == (targets > 0.5)).mean())
    return None


def solve_problem(problem: Problem, labels: np.ndarray, outputs: int, task: str, alpha: float) -> Solution:
    """The last layer under a penalty. An output that does not vary gets no kernel, and a bias by what is known of it."""
    features = problem.features
    kernel, bias = np.zeros((len(features.directions), outputs)), np.zeros(outputs)
    small = features.rows.size * outputs < MAX_SINGLE_THREAD_MACS
    # At scikit-learn's 1e-4 a weak penalty can leave probabilities 0.05 off.
    given = features.rows, problem.targets, problem.family, alpha, features.squares
    words = f"alpha = {alpha:.3g}" if task == "regression" else f"C = {1 / alpha:.3g}"
    if problem.targets.size and (problem.family != "softmax" or problem.targets.max() > 0):
        also = {"weights": problem.weights, "soft_targets": problem.soft_targets}
        found = penalised_models.fit(*given, **also, tolerance=1e-7 if small else 1e-4)
        solved, shift = features.restore(found)
    else:
        solved, shift = kernel[:, :0], bias[:0]
    if task == "single_label":
        present = np.unique(labels)
        # One column of log odds, which two logits share evenly.
        if len(present) == 2:
            solved, shift = np.concatenate([-solved / 2, solved / 2], 1), np.concatenate([-shift / 2, shift / 2])
        if solved.size:
            kernel[:, present], bias[present] = solved, shift
        _give_rare_chance(kernel, bias, features, present, len(labels))
    elif task == "multi_label":
        varied = _varied(labels)
        bias = log_odds(labels)
        kernel[:, varied], bias[varied] = solved, shift
    else:
        kernel, bias = solved, shift
    return Solution(kernel.astype(np.float32), bias.astype(np.float32), words)


def _give_rare_chance(kernel: np.ndarray, bias: np.ndarray, features: Rotated, present: np.ndarray, count: int) -> None:
    """Gives a class without an example the chance of half an example."""
    from scipy.special import logsumexp

    missing = np.setdiff1d(np.arange(len(bias)), present)
    if len(missing):
        shown = kernel[:, present]
        logits = features.rows @ (features.directions.T @ shown) + features.mean @ shown + bias[present]
        bias[missing] = logsumexp(logits, axis=-1).mean() + np.log(0.5 / count)


def _standard(values: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Values by the mean and deviation of the labels, which are by default the values."""
    known = (values if labels is None else labels).astype(np.float64)
    return (values.astype(np.float64) - known.mean(0)) / np.maximum(known.std(0), 1e-12)


def _varied(labels: np.ndarray) -> np.ndarray:
    """Columns that hold both a 0 and a 1."""
    return np.flatnonzero((labels.min(0) < 0.5) & (labels.max(0) > 0.5))
