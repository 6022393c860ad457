"""Predictions over a split, and how good they are: the losses and the one score that phases are judged by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kerasft.settings.errors import UserError

Predictor = Callable[[Iterable], np.ndarray]

# What a score is called in words.
TITLES = {"accuracy": "accuracy", "map": "mean average precision", "mae": "mean absolute error"}

SCORES = {"single_label": "accuracy", "multi_label": "map", "regression": "mae"}  # a task's headline, in metrics.json
# Fewer validation pictures than this judge nothing: neither a phase nor a temperature is chosen on them.
MIN_VALIDATION_IMAGES = 5


def predictor(model: keras.Model) -> Predictor:
    """A function from batches of a model's inputs [B, ...] to all outputs in order, float32 [N, ...].

    It is traced once and sees the weights as they are at each call. Where a batch does not fit into the device's memory,
    it is halved, and so are those after it.

    Raises (the function):
        UserError: one picture alone does not fit.
    """
    expected = tf.TensorSpec([None, *model.inputs[0].shape[1:]], model.inputs[0].dtype)
    graph = tf.function(lambda inputs: model(inputs, training=False), input_signature=[expected])
    most = [None]  # pictures that a call takes, once more did not fit into memory

    def answers(inputs: tf.Tensor) -> list[np.ndarray]:
        count, size = len(inputs), most[0]
        if size and count > size:
            return [found for start in range(0, count, size) for found in answers(inputs[start : start + size])]
        try:
            return [graph(inputs).numpy()]
        except tf.errors.ResourceExhaustedError as error:
            if count == 1:
                rule = "not even one picture fits into memory; take a smaller --backbone or --image_size"
                raise UserError(f"--image_size: {rule}. Received: pictures {inputs.shape[1:]}") from error
            most[0] = count // 2
            return answers(inputs)

    return lambda batches: np.concatenate([f for inputs in batches for f in answers(inputs)]).astype(np.float32)


def served(task: str, outputs: np.ndarray) -> np.ndarray:
    """What a network's outputs are served as: softmax [N, C], sigmoids [N, C], or values [N, D]; float64."""
    from scipy.special import expit, softmax

    outputs = outputs.astype(np.float64)
    return {"single_label": lambda z: softmax(z, axis=-1), "multi_label": expit, "regression": lambda z: z}[task](
        outputs
    )


@dataclass(frozen=True)
class Scorer:
    """Says how good outputs are for the examples of one split.

    Attributes:
        task: `single_label`, `multi_label` or `regression`.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D].
        scale: float [D], deviation of the training targets, for regression.
        weights: float [N] of mean 1, or None for equal ones.
        error: of regression: `squared`, `absolute` or `huber`.
    """

    task: str
    labels: np.ndarray
    scale: np.ndarray | None = None
    weights: np.ndarray | None = None
    error: str = "squared"

    @property
    def name(self) -> str:
        """The headline score, as `metrics.json` names it."""
        return SCORES[self.task]

    @property
    def title(self) -> str:
        """The headline score in words; the error of several targets is in their deviations."""
        several = self.task == "regression" and self.labels.shape[1] > 1
        return TITLES[self.name] + (" in deviations" if several else "")

    def losses(self, outputs: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
        """Loss of each example, float64 [N].

        Single label: negative log likelihood in nats; multi-label: the mean binary one over the classes;
        regression: the mean error over the targets, in units of `scale`.

        Args:
            outputs: float [N, C] logits, or [N, D] values.
            smoothing: share of each label that is spread evenly over what it could be; not for regression.
        """
        from scipy.special import log_softmax

        outputs = outputs.astype(np.float64)
        if self.task == "single_label":
            logs = log_softmax(outputs, axis=-1)
            found = -(1 - smoothing) * logs[np.arange(len(self.labels)), self.labels] - smoothing * logs.mean(-1)
        elif self.task == "multi_label":
            labels = (1 - smoothing) * self.labels + smoothing / 2
            found = (np.logaddexp(0, outputs) - labels * outputs).mean(-1)
        else:
            found = self.errors(outputs).mean(-1)
        return found if self.weights is None else found * self.weights

    def errors(self, values: np.ndarray) -> np.ndarray:
        """Of regression: the error of each value [N, D] in units of `scale`, float64."""
        return _ERRORS[self.error](np.abs(values.astype(np.float64) - self.labels) / self.scale)

    def loss(self, outputs: np.ndarray) -> float:
        """Mean of `losses`."""
        return float(self.losses(outputs).mean())

    def score(self, outputs: np.ndarray) -> float:
        """The task's headline: accuracy, mean average precision, or mean absolute error.

        The error of one target is in its units. That of several is in units of `scale`, their deviations: a mean over
        different units says nothing.
        """
        if self.task == "single_label":
            return float((outputs.argmax(-1) == self.labels).mean())
        if self.task == "multi_label":
            return mean_average_precision(outputs, self.labels) if np.isfinite(outputs).all() else 0.0
        gaps = np.abs(outputs.astype(np.float64) - self.labels)
        return float((gaps if self.labels.shape[1] == 1 else gaps / self.scale).mean())

    def tempered(self, outputs: np.ndarray) -> tuple[float, np.ndarray]:
        """The best temperature of outputs, and the losses at it: the form in which weights are compared.

        The losses of outputs that are not all finite are not a number.
        """
        if not np.isfinite(outputs).all():
            return 1.0, np.full(len(self.labels), np.nan)
        temperature = self.temperature(outputs)
        return temperature, self.losses(outputs / temperature)

    def compared(self, outputs: np.ndarray) -> tuple[float, float]:
        """Mean of the losses that `tempered` gives, and the score: what is compared, recorded and printed."""
        return float(self.tempered(outputs)[1].mean()), self.score(outputs)

    def temperature(self, outputs: np.ndarray) -> float:
        """The number T in [1/2, 8] by which logits are divided for the lowest loss (Guo et al. 2017).

        Labels are smoothed by 1 / (N + 2), after Platt (1999): few pictures, all of them right, would ask for certainty.
        For a T below 1, which asks for more of it, they are by 3 / N: the share of mistakes that may well be
        where N pictures showed none (Hanley and Lippman-Hand 1983). It is 1 for regression, for values have none, and
        for fewer than `MIN_VALIDATION_IMAGES`.
        """
        from scipy.optimize import minimize_scalar

        if self.task == "regression" or len(self.labels) < MIN_VALIDATION_IMAGES:
            return 1.0
        bounds = (-np.log(2), np.log(8))

        def best(smoothing: float) -> float:
            def loss(t: float) -> float:
                return float(self.losses(outputs / np.exp(t), smoothing).mean())

            return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))

        found = best(1 / (len(self.labels) + 2))
        return found if found >= 1 else min(1.0, best(min(1.0, 3 / len(self.labels))))


_ERRORS = {
    "squared": np.square,
    "absolute": np.abs,
    "huber": lambda r: np.where(r <= 1, 0.5 * r**2, r - 0.5),
}


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of the average precision; 0 where none does.

    Args:
        scores: float [N, C].
        labels: 0 or 1, [N, C].
    """
    from sklearn.metrics import average_precision_score

    found = [average_precision_score(labels[:, i], scores[:, i]) for i in np.flatnonzero(labels.any(0))]
    return float(np.mean(found)) if found else 0.0


def one_standard_error_rule(candidates: list[np.ndarray], errors: float = 1.0) -> int:
    """The one-standard-error rule (Breiman et al. 1984, section 3.4.3) on paired losses.

    Args:
        candidates: float64 [N] each, losses of the same examples, the preferred candidate first.
        errors: standard errors that one may be worse than the best.

    Returns:
        The first place whose mean loss lies within so many standard errors of the best one's, the error being that
        of their difference example by example. Of a single example nothing is measurable, so it is the first place.
    """
    if len(candidates[0]) < 2:
        return 0
    best = min(candidates, key=np.mean)
    for place, found in enumerate(candidates):
        gap = found - best
        if gap.mean() <= errors * gap.std(ddof=1) / np.sqrt(len(gap)):
            return place
    return len(candidates) - 1
