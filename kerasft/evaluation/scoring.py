"""Predictions over a split, their losses, and the one score by which phases are compared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kerasft.evaluation import calibration, intervals
from kerasft.evaluation.pinball import asked_quantile, judged_errors, pinball
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES, TITLES, score_key, score_name
from kerasft.settings.errors import UserError

Predictor = Callable[[Iterable], np.ndarray]


def make_predictor(model: keras.Model) -> Predictor:
    """Returns a function from batches of inputs [B, ...] to all outputs of a model in order, float32 [N, ...].

    The function is traced once, and uses the weights that the model has at each call. A batch that does not fit into the
    memory of the device is halved, and so is every later batch.

    Raises (the function):
        UserError: a single image does not fit.
    """
    signature = tf.TensorSpec([None, *model.inputs[0].shape[1:]], model.inputs[0].dtype)
    graph = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])
    max_batch: int | None = None

    def predict(inputs: tf.Tensor) -> list[np.ndarray]:
        nonlocal max_batch
        count = len(inputs)
        if max_batch and count > max_batch:
            step = max_batch
            return [part for start in range(0, count, step) for part in predict(inputs[start : start + step])]
        try:
            return [graph(inputs).numpy()]
        except tf.errors.ResourceExhaustedError as error:
            if count == 1:
                rule = "not even one image fits into memory; choose a smaller --backbone or --image_size"
                raise UserError(f"--image_size: {rule}. Received: images {inputs.shape[1:]}") from error
            max_batch = count // 2
            return predict(inputs)

    return lambda batches: np.concatenate([part for inputs in batches for part in predict(inputs)]).astype(np.float32)


def apply_activation(task: str, outputs: np.ndarray) -> np.ndarray:
    """Turns the outputs of a network into what is served: softmax [N, C], sigmoid [N, C], or values [N, D]; float64."""
    from scipy.special import expit, softmax

    outputs = outputs.astype(np.float64)
    if task == "single_label":
        return softmax(outputs, axis=-1)
    return expit(outputs) if task == "multi_label" else outputs


def invert_activation(task: str, answers: np.ndarray) -> np.ndarray:
    """Returns outputs that `apply_activation` turns into what was served, float64 [N, ...].

    A probability counts as at least 1e-7, and under multi_label as at most 1 - 1e-7: a float32 that has become 0 would have
    an infinite loss. (`keras.losses` clips alike.)
    """
    answers = answers.astype(np.float64)
    if task == "single_label":
        return np.log(answers.clip(1e-7))
    clipped = answers.clip(1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped)) if task == "multi_label" else answers


@dataclass(frozen=True)
class Scorer:
    """Measures outputs of a network against the labels of one split.

    Attributes:
        task: `single_label`, `multi_label` or `regression`.
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D].
        scale: float [D], standard deviation of the training targets, for regression.
        weights: float [N] of mean 1, or None for equal weights.
        error: under regression: `squared`, `absolute`, `huber` or `pinball`.
        quantile: that the values predict, under the error `pinball`.
        delta: where the error `huber` becomes linear, in units of `scale`.
    """

    task: str
    labels: np.ndarray
    scale: np.ndarray | None = None
    weights: np.ndarray | None = None
    error: str = "squared"
    quantile: float = 0.5
    delta: float = 1.0

    @property
    def asked_quantile(self) -> float | None:
        """The quantile whose pinball loss is the score; None for the mean and the median, which absolute errors judge."""
        return asked_quantile({"quantile": self.quantile}) if self.error == "pinball" else None

    @property
    def name(self) -> str:
        """The name of the score in rows of `metrics.json`, such as those of phases."""
        return score_name(self.task, self.asked_quantile)

    @property
    def key(self) -> str:
        """The name of what `score` gives among the metrics of a split, as `score_names.score_key` has it."""
        targets = self.labels.shape[1] if self.task == "regression" else 1
        return score_key(self.task, targets, self.asked_quantile)

    @property
    def title(self) -> str:
        """The name of the score in words. The error of several targets is in units of their deviations."""
        return TITLES[self.key]

    def losses(self, outputs: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
        """Returns the loss of each example, float64 [N].

        Single-label: the cross-entropy in nats. Multi-label: the mean binary cross-entropy over the classes. Regression:
        the mean error over the targets, in units of `scale`.

        Args:
            outputs: float [N, C] logits, or [N, D] values.
            smoothing: label smoothing in [0, 1]; not for regression.
        """
        from scipy.special import log_softmax

        outputs = outputs.astype(np.float64)
        if self.task == "single_label":
            logs = log_softmax(outputs, axis=-1)
            losses = -(1 - smoothing) * logs[np.arange(len(self.labels)), self.labels] - smoothing * logs.mean(-1)
        elif self.task == "multi_label":
            labels = (1 - smoothing) * self.labels + smoothing / 2
            losses = (np.logaddexp(0, outputs) - labels * outputs).mean(-1)
        else:
            losses = self.errors(outputs).mean(-1)
        return losses if self.weights is None else losses * self.weights

    def errors(self, values: np.ndarray) -> np.ndarray:
        """Returns the error of each value under regression, float64 [N, D], in units of `scale`."""
        residuals = (self.labels - values.astype(np.float64)) / self.scale
        if self.error == "squared":
            return np.square(residuals)
        size = np.abs(residuals)
        if self.error == "huber":
            return np.where(size <= self.delta, 0.5 * size**2, self.delta * (size - 0.5 * self.delta))
        if self.error == "pinball":
            return pinball(residuals, self.quantile)
        return size

    def loss(self, outputs: np.ndarray) -> float:
        """Returns the mean of `losses`."""
        return float(self.losses(outputs).mean())

    def score(self, outputs: np.ndarray) -> float:
        """Returns the score of the task: accuracy, mean average precision, or mean absolute error.

        A quantile is scored by its mean pinball loss: answers that slip to the median would lower the absolute error. The
        error of one target is in its own units. The error of several targets is in units of `scale`: a mean over different
        units has no meaning.
        """
        if self.task == "single_label":
            return float((outputs.argmax(-1) == self.labels).mean())
        if self.task == "multi_label":
            return mean_average_precision(outputs, self.labels) if np.isfinite(outputs).all() else 0.0
        if self.labels.shape[1] > 1:
            return self.scaled_error(outputs)
        return float(judged_errors(self.labels - outputs.astype(np.float64), self.asked_quantile).mean())

    def scaled_error(self, values: np.ndarray) -> float:
        """Returns the score of regression in units of `scale`, also that of one target: limits hold for targets of any unit."""
        residuals = (self.labels - values.astype(np.float64)) / self.scale
        return float(judged_errors(residuals, self.asked_quantile).mean())

    def calibrated_losses(self, outputs: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the best temperature of outputs, and the losses at it. Weights of a network are compared by these losses.

        The losses are NaN where any output is not finite.
        """
        if not np.isfinite(outputs).all():
            return 1.0, np.full(len(self.labels), np.nan)
        temperature = self.temperature(outputs)
        return temperature, self.losses(outputs / temperature)

    def calibrated_loss_and_score(self, outputs: np.ndarray) -> tuple[float, float]:
        """Returns the mean of the losses of `calibrated_losses`, and the score: what is compared, recorded and printed."""
        return float(self.calibrated_losses(outputs)[1].mean()), self.score(outputs)

    def temperature(self, outputs: np.ndarray) -> float:
        """Returns the temperature by which logits are divided for the lowest loss (see `calibration.fit_temperature`).

        It is 1 under regression, and for fewer than `MIN_VALIDATION_IMAGES` examples.
        """
        if self.task == "regression" or len(self.labels) < MIN_VALIDATION_IMAGES:
            return 1.0

        def mean_loss(temperature: float, smoothing: float) -> float:
            return float(self.losses(outputs / temperature, smoothing).mean())

        return calibration.fit_temperature(mean_loss, len(self.labels))


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of the average precision over the classes that occur; 0 if none occurs.

    Args:
        scores: float [N, C].
        labels: 0 or 1, [N, C].
    """
    from sklearn.metrics import average_precision_score

    precisions = [average_precision_score(labels[:, i], scores[:, i]) for i in np.flatnonzero(labels.any(0))]
    return float(np.mean(precisions)) if precisions else 0.0


def one_standard_error_rule(candidates: list[np.ndarray], standard_errors: float = 1.0) -> int:
    """Applies the one-standard-error rule (Breiman et al. 1984, section 3.4.3) to paired losses.

    Args:
        candidates: float64 [N] each, losses of the same examples, the preferred candidate first.
        standard_errors: how many standard errors a candidate may be worse than the best.

    Returns:
        The index of the first candidate whose mean loss is within so many standard errors of the best. The standard error
        is that of the difference, example by example. A single example has none, so the index is then 0.
    """
    if len(candidates[0]) < 2:
        return 0
    best = min(candidates, key=np.mean)
    for index, losses in enumerate(candidates):
        gap = losses - best
        if gap.mean() <= standard_errors * intervals.standard_error(gap):
            return index
    return len(candidates) - 1
