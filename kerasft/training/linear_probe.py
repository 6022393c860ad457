"""What is solved or counted instead of trained: the features' statistics, the prior, the linear probe."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from kerasft.evaluation.scoring import one_standard_error_rule

# Part of the key of kept solutions. To be raised where `solve` comes to another kernel or bias.
SOLVER_VERSION = 1
INVERSE_PENALTIES = 10.0 ** np.arange(-4, 2.5, 0.5)  # C, the inverse penalties that are tried
PENALTY_STANDARD_ERRORS = 0.5  # standard errors by which the loss of a stronger penalty may be above the lowest: few examples make lucky folds
FOLDS = 5
UNKNOWN = 0.01  # C where nothing can be held out: a strong penalty
MAX_SINGLE_THREAD_MACS = (
    1e8  # multiplications of a step up to which one thread is as fast as several, and every fit is solved to its end
)
MAX_CV_EXAMPLES = 10_000  # examples: of more, this many and one held-out fifth of them are enough to choose the penalty


class Solution(NamedTuple):
    """A solved last layer: kernel float32 [D, C], bias float32 [C], and the penalty in words."""

    kernel: np.ndarray
    bias: np.ndarray
    penalty: str


def set_statistics(layer: keras.layers.Normalization, values: np.ndarray) -> None:
    """Gives a Normalization layer the mean and variance of float [N, D] values.

    A feature that hardly varies (a dead one, say) gets a hundredth of the mean variance: divided by its own, it
    would drown the others as soon as fine-tuning wakes it up.
    """
    mean, variance = values.mean(0, dtype=np.float64), values.var(0, dtype=np.float64)
    if not layer.invert:
        variance = np.maximum(variance, max(0.01 * variance.mean(), 1e-12))
    layer.adapt_mean.assign(mean.reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(variance.reshape(layer.adapt_variance.shape))
    layer.finalize_state()


def set_prior(layer: keras.layers.Dense, labels: np.ndarray, task: str) -> None:
    """Sets the bias of the last layer to what is known without looking (Lin et al. 2017, section 4.1).

    The log frequencies of int32 [N] labels, or the log odds of float32 [N, C] ones; regression begins at the mean
    anyhow.
    """
    if task == "single_label":
        layer.bias.assign(np.log(np.maximum(np.bincount(labels, minlength=layer.units), 0.5) / len(labels)))
    elif task == "multi_label":
        layer.bias.assign(_log_odds(labels))


def constant(labels: np.ndarray, outputs: int, task: str, weights: np.ndarray | None = None) -> np.ndarray:
    """What is best answered without looking, float64 [C]: log frequencies, log odds, or means.

    Args:
        labels, weights: as in `solve`.
        outputs: C.
        task: as in `solve`.
    """
    if task == "single_label":
        counts = np.bincount(labels, weights, minlength=outputs)
        return np.log(np.maximum(counts, 0.5) / counts.sum())
    if task == "multi_label":
        return _log_odds(labels, weights)
    return np.average(labels.astype(np.float64), 0, weights)


def _log_odds(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Of [N, C] zeros and ones, half an example added to both sides."""
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    present = weights @ labels
    return np.log((present + 0.5) / (weights.sum() - present + 0.5))


def solve(
    features: np.ndarray, labels: np.ndarray, outputs: int, task: str, seed: int, weights: np.ndarray | None = None
) -> Solution:
    """Solves the last layer on frozen features, its L2 penalty chosen by cross-validation.

    Logistic regression for single labels, one against the rest for several, ridge regression (of standardised
    targets) for values; scikit-learn's `LogisticRegression` (L-BFGS) and `RidgeCV`.

    Args:
        features: float32 [N, D], standardised.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T].
        outputs: C, or T.
        task: `single_label`, `multi_label` or `regression`.
        seed: of the folds.
        weights: float [N] of the examples, or None.
    """
    from threadpoolctl import threadpool_limits

    # Threads of the linear algebra wait for each other longer than a small step takes: ten times, on two cores.
    with threadpool_limits(1 if features.size * outputs < MAX_SINGLE_THREAD_MACS else None):
        if task == "regression":
            return _ridge(features, labels, weights)
        if task == "multi_label":
            return _one_against_rest(features, labels, seed, weights)
        return _multinomial(features, labels, outputs, seed, weights)


def _multinomial(
    features: np.ndarray, labels: np.ndarray, classes: int, seed: int, weights: np.ndarray | None
) -> Solution:
    """Without two examples of any class there are no folds, and C is `UNKNOWN`.

    The penalty is that of a prior on the weights, the same for few examples and many, so few can choose it. A class
    without an example gets the chance of half an example.
    """
    from scipy.special import logsumexp
    from sklearn.linear_model import LogisticRegression

    present, labels = np.unique(labels, return_inverse=True)
    kernel, bias = np.zeros((features.shape[1], classes)), np.zeros(classes)
    best = UNKNOWN
    if len(present) > 1:
        rows = _sample(labels, seed)
        splits = _folds(labels, rows, seed)[: 1 if len(labels) > MAX_CV_EXAMPLES else None]
        models = [LogisticRegression(max_iter=300, warm_start=True) for _ in splits]  # each goes on from the last C

        def held_out(strength: float) -> np.ndarray:
            losses = []
            for model, (fitted, held) in zip(models, splits):
                model.set_params(C=strength).fit(features[fitted], labels[fitted], _rows(weights, fitted))
                chances = model.predict_proba(features[held])[np.arange(len(held)), labels[held]]
                losses.append(-np.log(np.maximum(chances, 1e-12)) * _rows(weights, held, 1.0))
            return np.concatenate(losses)

        best = _strongest(held_out) if splits else UNKNOWN
        model = LogisticRegression(C=best, max_iter=1000, warm_start=True)
        if len(rows) < len(labels):  # from there it is not far
            model.fit(features[rows], labels[rows], _rows(weights, rows))
        model.set_params(tol=_tolerance(features, len(present))).fit(features, labels, weights)
        found = model.coef_.T, model.intercept_
        if len(present) == 2:  # scikit-learn gives one column of log odds; two logits share it evenly
            found = [np.concatenate([-half, half], -1) for half in (found[0] / 2, found[1] / 2)]
        kernel[:, present], bias[present] = found
    if len(present) < classes:
        total = logsumexp(features @ kernel[:, present] + bias[present], axis=-1).mean()
        bias[np.setdiff1d(np.arange(classes), present)] = total + np.log(0.5 / len(labels))
    return Solution(kernel.astype(np.float32), bias.astype(np.float32), f"C = {best:.3g}")


def _folds(labels: np.ndarray, rows: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows; the only example of a class is always fitted, so that every model knows all classes.

    A class of fewer examples than folds is held out in as many of them as it has examples.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels[rows])
    several = rows[counts[labels[rows]] > 1]
    if not len(several):
        return []
    folds = StratifiedKFold(min(FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [(np.setdiff1d(rows, several[held]), several[held]) for _, held in folds.split(several, labels[several])]


def _sample(labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows to choose the penalty on: all, or `MAX_CV_EXAMPLES` with the classes in proportion and two of each at least."""
    if len(labels) <= MAX_CV_EXAMPLES:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = np.bincount(labels)
    wanted = np.minimum(sizes, np.maximum(2, np.round(sizes * MAX_CV_EXAMPLES / len(labels)))).astype(int)
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label, count in enumerate(wanted)]))


def _one_against_rest(features: np.ndarray, labels: np.ndarray, seed: int, weights: np.ndarray | None) -> Solution:
    """One C for all classes; a class without positives or negatives keeps its log odds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    bias = _log_odds(labels)
    kernel = np.zeros((features.shape[1], labels.shape[1]))
    varied = np.flatnonzero((labels.min(0) == 0) & (labels.max(0) == 1))
    folds = min(FOLDS, len(labels))
    splits = list(KFold(folds, shuffle=True, random_state=seed).split(features)) if folds > 1 else []
    pairs = [(c, fitted, held) for c in varied for fitted, held in splits if len(np.unique(labels[fitted, c])) == 2]
    models = [LogisticRegression(max_iter=300, warm_start=True) for _ in pairs]

    def held_out(strength: float) -> np.ndarray:
        losses = []
        for model, (c, fitted, held) in zip(models, pairs):
            model.set_params(C=strength).fit(features[fitted], labels[fitted, c], _rows(weights, fitted))
            logits = model.decision_function(features[held])
            losses.append((np.logaddexp(0, logits) - labels[held, c] * logits) * _rows(weights, held, 1.0))
        return np.concatenate(losses)

    best = _strongest(held_out) if pairs else UNKNOWN
    for c in varied:
        model = LogisticRegression(C=best, max_iter=1000, tol=_tolerance(features, 1)).fit(
            features, labels[:, c], weights
        )
        kernel[:, c], bias[c] = model.coef_[0], model.intercept_[0]
    return Solution(kernel.astype(np.float32), bias.astype(np.float32), f"C = {best:.3g}")


def _ridge(features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Solution:
    """Ridge regression to the targets standardised; the penalty by generalised leave-one-out."""
    from sklearn.linear_model import RidgeCV

    targets = labels.astype(np.float64)
    targets = (targets - targets.mean(0)) / np.maximum(targets.std(0), 1e-12)
    model = RidgeCV(alphas=10.0 ** np.arange(-1, 6.5, 0.5)).fit(features.astype(np.float64), targets, weights)
    kernel = np.atleast_2d(model.coef_).reshape(targets.shape[1], -1).T
    bias = np.broadcast_to(model.intercept_, targets.shape[1])
    return Solution(kernel.astype(np.float32), bias.astype(np.float32), f"alpha = {model.alpha_:.3g}")


def _tolerance(features: np.ndarray, outputs: int) -> float:
    """Of the last fit's gradient: at scikit-learn's 1e-4 a weak penalty can leave probabilities 0.05 off."""
    return 1e-6 if features.size * outputs < MAX_SINGLE_THREAD_MACS else 1e-4


def _strongest(held_out: Callable[[float], np.ndarray]) -> float:
    """The least C whose held-out losses are near the lowest; weaker penalties are tried until two in a row no longer help."""
    tried: list[np.ndarray] = []
    for strength in INVERSE_PENALTIES:
        tried.append(held_out(strength))
        if len(tried) - int(np.argmin([losses.mean() for losses in tried])) > 2:
            break
    return float(INVERSE_PENALTIES[one_standard_error_rule(tried, PENALTY_STANDARD_ERRORS)])


def _rows(weights: np.ndarray | None, rows: np.ndarray, otherwise: float | None = None) -> np.ndarray | float | None:
    return otherwise if weights is None else weights[rows]
