"""Penalised linear models: softmax, logistic and least-squares regression, solved by L-BFGS in well-scaled coordinates.

The objective is `sum_i w_i loss(x_i W + b, y_i) + alpha / 2 |W|^2`. With a teacher, the loss is shared between labels and its
answers (`SoftTargets`). Features are first centred and rotated onto their
principal directions, which changes neither outputs nor penalty. There the curvature of the loss is nearly diagonal, so each
coordinate is scaled by it (a diagonal preconditioner; the bound of the softmax's curvature is Boehning's, 1992). L-BFGS
(Liu and Nocedal 1989) then needs a few iterations where it needs hundreds on plain features, and 3,000 features of 1,000
images cost as much as 1,000.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Directions whose squared singular value is below this share of the largest hold rounding errors only.
MIN_RELATIVE_SQUARE = 1e-10

# Elements of a matrix from which its products are computed in float32.
MAX_FLOAT64_ELEMENTS = 5_000_000

# Probabilities of a teacher below this, or above 1 less this, count as these.
MIN_PROBABILITY = 1e-12

# Mean curvature of the loss by logit: p (1 - p) of a rather certain model, and exactly 1 for squared errors.
_CURVATURES = {"softmax": 0.1, "logistic": 0.1, "squared": 1.0}

FAMILIES = tuple(_CURVATURES)


class Rotated(NamedTuple):
    """Features less their mean, in the basis of their principal directions.

    Attributes:
        mean: float [D].
        rows: float [N, r].
        directions: float [D, r], orthonormal.
        squares: float64 [r], squared singular values.
    """

    mean: np.ndarray
    rows: np.ndarray
    directions: np.ndarray
    squares: np.ndarray

    def restore(self, fit: "Fit") -> "Fit":
        """The kernel [D, C] and bias [C] that do to plain features what a fit does to `rows`."""
        kernel = self.directions.astype(np.float64) @ fit.kernel
        return Fit(kernel, fit.bias - self.mean @ kernel)


class Fit(NamedTuple):
    """A solved model: kernel float64 [r, C], or [D, C], and bias float64 [C]."""

    kernel: np.ndarray
    bias: np.ndarray


class SoftTargets(NamedTuple):
    """What a teacher answers to the examples, as the second part of the loss (Hinton et al. 2015; `optimization.distillation`).

    Attributes:
        answers: float64 [N, C]: probabilities that sum to 1 for `softmax`, probabilities of each output for `logistic`,
            values for `squared`.
        temperature: by which logits are divided; values have none.
        weight: share of this part in the loss, in (0, 1].
    """

    # The name of the class in keys of kept solutions. It must not change.
    KEY_NAME = "Taught"

    answers: np.ndarray
    temperature: float
    weight: float


def rotate(features: np.ndarray) -> Rotated:
    """Rotates float [N, D] features onto their at most min(N, D) principal directions."""
    count, width = features.shape
    features = features.astype(np.float64 if features.size <= MAX_FLOAT64_ELEMENTS else np.float32, copy=False)
    mean = features.mean(0)
    features = features - mean
    if width <= count:
        squares, directions = np.linalg.eigh(features.T @ features)
    else:
        squares, left = np.linalg.eigh(features @ features.T)
        known = squares > MIN_RELATIVE_SQUARE * max(squares[-1], 1e-12)
        squares, left = squares[known], left[:, known]
        directions = features.T @ (left / np.sqrt(squares))
    known = squares > MIN_RELATIVE_SQUARE * max(squares[-1:].sum(), 1e-12)
    squares, directions = squares[known], directions[:, known]
    return Rotated(mean, features @ directions, directions, squares.astype(np.float64))


def fit(
    rows: np.ndarray,
    targets: np.ndarray,
    family: str,
    alpha: float,
    squares: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    start: Fit | None = None,
    tolerance: float = 1e-4,
    soft_targets: SoftTargets | None = None,
) -> Fit:
    """Fits one model.

    Args:
        rows: float [N, r], as `rotate` gives them or some of these.
        targets: int [N] classes for `softmax`; float [N, C] of 0 and 1 for `logistic`; float [N, C] for `squared`.
        family: one of `FAMILIES`.
        alpha: the penalty, above 0.
        squares: float64 [r], about the sum of squares of each column of `rows`.
        weights: float [N] of the examples, or None.
        start: where to begin, such as the fit at another penalty.
        tolerance: of the largest entry of the gradient by the number of examples.
        soft_targets: what a teacher answers to them, or None.
    """
    from scipy.optimize import minimize

    count, width = rows.shape
    outputs = int(targets.max()) + 1 if family == "softmax" else targets.shape[1]
    outputs = max(outputs, start.bias.size if start else 0)
    loss_and_residual = _loss(family, targets, weights)
    if soft_targets is not None:
        loss_and_residual = _shared(
            loss_and_residual, _teachers_loss(family, soft_targets, weights), soft_targets.weight
        )
    scale = 1 / np.sqrt(_CURVATURES[family] * squares + alpha)
    bias_scale = 1 / np.sqrt(_CURVATURES[family] * count)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = flat.reshape(width + 1, outputs)
        kernel = scaled[:-1] * scale[:, None]
        logits = (rows @ kernel.astype(rows.dtype)).astype(np.float64) + scaled[-1] * bias_scale
        loss, residual = loss_and_residual(logits)
        gradient = np.empty_like(scaled)
        gradient[:-1] = ((rows.T @ residual.astype(rows.dtype)) + alpha * kernel) * scale[:, None]
        gradient[-1] = residual.sum(0) * bias_scale
        return (loss + alpha / 2 * np.square(kernel).sum()) / count, gradient.ravel() / count

    first = np.zeros((width + 1, outputs))
    if start is not None:
        first[:-1], first[-1] = start.kernel / scale[:, None], start.bias / bias_scale
    options = {"maxiter": 500, "gtol": tolerance, "ftol": 1e-5 * tolerance}
    found = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(first.shape)
    return Fit(found[:-1] * scale[:, None], found[-1] * bias_scale)


LossAndResidual = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _loss(family: str, targets: np.ndarray, weights: np.ndarray | None) -> LossAndResidual:
    """A function from logits [N, C] to the summed loss and its derivative [N, C]."""
    from scipy.special import expit

    each = np.ones(len(targets)) if weights is None else weights.astype(np.float64)

    def softmax(logits: np.ndarray) -> tuple[float, np.ndarray]:
        highest = logits.max(1, keepdims=True)
        powers = np.exp(logits - highest)
        sums = powers.sum(1, keepdims=True)
        here = np.arange(len(targets)), targets
        loss = (np.log(sums) + highest)[:, 0] - logits[here]
        residual = powers / sums
        residual[here] -= 1
        return float(loss @ each), residual * each[:, None]

    def logistic(logits: np.ndarray) -> tuple[float, np.ndarray]:
        loss = (np.logaddexp(0, logits) - targets * logits).sum(1)
        return float(loss @ each), (expit(logits) - targets) * each[:, None]

    def squared(logits: np.ndarray) -> tuple[float, np.ndarray]:
        residual = logits - targets
        return float(np.square(residual).sum(1) @ each) / 2, residual * each[:, None]

    return {"softmax": softmax, "logistic": logistic, "squared": squared}[family]


def _shared(labels: LossAndResidual, teacher: LossAndResidual, weight: float) -> LossAndResidual:
    """Both parts, of which the second has this weight."""

    def both(logits: np.ndarray) -> tuple[float, np.ndarray]:
        (own, own_residual), (other, other_residual) = labels(logits), teacher(logits)
        return (1 - weight) * own + weight * other, (1 - weight) * own_residual + weight * other_residual

    return both


def _teachers_loss(family: str, soft_targets: SoftTargets, weights: np.ndarray | None) -> LossAndResidual:
    """A function from logits [N, C] to T^2 times the cross-entropy to the answers at T, and its derivative [N, C].

    The cross-entropy is the divergence but for a constant.
    """
    from scipy.special import expit, log_softmax, logit, softmax

    each = np.ones(len(soft_targets.answers)) if weights is None else weights.astype(np.float64)
    known, heat = np.clip(soft_targets.answers, MIN_PROBABILITY, 1 - MIN_PROBABILITY), soft_targets.temperature

    if family == "softmax":
        shares = softmax(np.log(known) / heat, axis=1)

        def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
            logs = log_softmax(logits / heat, axis=1)
            return -float((shares * logs).sum(1) @ each) * heat**2, (np.exp(logs) - shares) * each[:, None] * heat

        return loss
    if family == "logistic":
        shares = expit(logit(known) / heat)

        def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
            gaps = (np.logaddexp(0, logits / heat) - shares * logits / heat).sum(1)
            return float(gaps @ each) * heat**2, (expit(logits / heat) - shares) * each[:, None] * heat

        return loss
    return _loss("squared", soft_targets.answers, weights)
