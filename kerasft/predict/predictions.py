"""Predictions and models, in one form for all tasks, for a local model and for a server."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kerasft.data import image_headers
from kerasft.settings.errors import UserError


class RefusedBatch(Exception):
    """A batch has an image that cannot be decoded, or is too large for the model."""


class Prediction(NamedTuple):
    """The prediction for one image.

    Attributes:
        task: `single_label`, `multi_label` or `regression`; None where there is an error.
        names: the top classes by descending score (single_label), the predicted labels (multi_label), or the targets
            (regression).
        numbers: float32 [len(names)], the scores, or the values under regression.
        probabilities: float32 [C], of all classes in the model's order; None under regression.
        error: why there is no prediction.
    """

    task: str | None = None
    names: list[str] | None = None
    numbers: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    error: str | None = None


class Model(NamedTuple):
    """A model, local or on a server.

    Attributes:
        predict: from encoded images to their predictions; raises RefusedBatch.
        digest: changes when the predictions may change; a server may load another version.
        task: empty if it is not known before the first prediction.
        names: of the C classes or D targets; empty if they are not known.
        concurrency: number of batches to compute at once.
    """

    predict: Callable[[list[bytes]], list[Prediction]]
    digest: Callable[[], str]
    task: str
    names: list[str]
    concurrency: int


def refuse_change(model: Model, digest: str) -> None:
    """Raises UserError where a server has another version of the model than when its `digest` was this."""
    if model.digest() != digest:
        raise UserError("--url: the server has another version of the model now; the same command starts over.")


def find_task(outputs: dict[str, np.ndarray]) -> str:
    """Returns the task that an exported model with these outputs has."""
    return "regression" if "values" in outputs else "multi_label" if "predicted" in outputs else "single_label"


def to_predictions(outputs: dict[str, np.ndarray], names: list[str]) -> list[Prediction]:
    """Converts the outputs of an exported model to one prediction for each image.

    Args:
        outputs: `values` (float32 [N, D]), or `classes` (text or bytes [N, k]), `scores` (float32 [N, k]) and
            `probabilities` (float32 [N, C]), for multi_label also `predicted` (bool [N, C]).
        names: of all C classes or D targets, as far as they are known.
    """
    task = find_task(outputs)
    if task == "regression":
        targets = names or [f"value_{j}" for j in range(outputs["values"].shape[1])]
        return [Prediction(task, targets, values) for values in outputs["values"]]
    if task == "multi_label":
        return [
            _multi_label_prediction(*row, names)
            for row in zip(*map(outputs.get, ("classes", "probabilities", "predicted")))
        ]
    rows = zip(*map(outputs.get, ("classes", "scores", "probabilities")))
    return [Prediction(task, _texts(classes), scores, all_of) for classes, scores, all_of in rows]


def _multi_label_prediction(
    classes: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, names: list[str]
) -> Prediction:
    """Returns the predicted labels. Without `names`, the top classes have their names from the outputs; others get their index."""
    # The order of `tf.math.top_k`.
    order = (-probabilities).argsort(kind="stable")
    texts = dict(zip(order.tolist(), _texts(classes)))
    present = [j for j in order.tolist() if predicted[j]]
    labels = [names[j] if names else texts.get(j, str(j)) for j in present]
    return Prediction("multi_label", labels, probabilities[present], probabilities)


def _texts(classes: np.ndarray) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in classes]


def check_size(contents: bytes) -> None:
    """Raises RefusedBatch for a size that the audit rejects too. The model finds all other mistakes."""
    try:
        fault = image_headers.find_size_fault(contents)
    except ValueError as error:
        raise RefusedBatch(str(error)) from None
    if fault:
        raise RefusedBatch(fault[1])


def last_line(message: str) -> str:
    """Returns the last line of TensorFlow's message, which gives the reason; at most 160 characters."""
    # Lines with double brackets name nodes of the graph.
    lines = [line.strip() for line in message.splitlines() if line.strip() and "[[" not in line]
    return lines[-1].rstrip(".")[:160] if lines else "no reason given"


def refused_batch(message: str) -> RefusedBatch:
    """Returns the error for a message of TensorFlow or of a server."""
    return RefusedBatch("the model refuses it: " + last_line(message))
