"""What a model says of a picture, in one form for all tasks and wherever the model is."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class RefusedBatch(Exception):
    """There is a picture among those given that cannot be decoded, or more than are taken at once."""


class Prediction(NamedTuple):
    """What is said of one picture.

    Attributes:
        task: `single_label`, `multi_label` or `regression`; None where there is an error.
        names: the best classes by falling score; of several labels those taken for present; or the targets.
        numbers: float32, a score for each, or the values.
        probabilities: float32 [C], of all classes in the model's order; None under regression.
        error: why there is no answer.
    """

    task: str | None = None
    names: list[str] | None = None
    numbers: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    error: str | None = None


class Model(NamedTuple):
    """Something that answers.

    Attributes:
        answer: encoded pictures to what is said of each; raises Refused.
        digest: of all that an answer depends on, as it is now; a server may change.
        task: empty where it is not known before an answer.
        names: of the C classes or D targets; empty where they are not known.
        concurrency: how many batches are worth having under way at once.
    """

    answer: Callable[[list[bytes]], list[Prediction]]
    digest: Callable[[], str]
    task: str
    names: list[str]
    concurrency: int


def to_predictions(answer: dict[str, np.ndarray], names: list[str]) -> list[Prediction]:
    """The outputs of an exported model, picture by picture.

    Args:
        answer: `values` (float32 [N, D]), or `classes` (text or bytes [N, k]), `scores` (float32 [N, k]) and
            `probabilities` (float32 [N, C]), for several labels with `predicted` (bool [N, C]): see `export.export`.
        names: of all C classes or D targets, as far as they are known.
    """
    if "values" in answer:
        targets = names or [f"value_{j}" for j in range(answer["values"].shape[1])]
        return [Prediction("regression", targets, values) for values in answer["values"]]
    if "predicted" in answer:
        return [_present(*row, names) for row in zip(*map(answer.get, ("classes", "probabilities", "predicted")))]
    rows = zip(*map(answer.get, ("classes", "scores", "probabilities")))
    return [Prediction("single_label", _texts(classes), scores, all_of) for classes, scores, all_of in rows]


def _present(classes: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, names: list[str]) -> Prediction:
    """The labels taken for present. Without names, those of the best few are in the answer; others get their number."""
    order = (-probabilities).argsort(kind="stable")  # as top_k orders, so that the best few have their places
    texts = dict(zip(order.tolist(), _texts(classes)))
    present = [j for j in order.tolist() if predicted[j]]
    labels = [names[j] if names else texts.get(j, str(j)) for j in present]
    return Prediction("multi_label", labels, probabilities[present], probabilities)


def _texts(classes: np.ndarray) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in classes]


def last_line(message: str) -> str:
    """The end of a message of TensorFlow's, where it says what was wrong; at most 160 letters."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and "[[{{" not in line]  # nodes of the graph
    return lines[-1][:160] if lines else "no reason given"


def refused(message: str) -> RefusedBatch:
    """The Refused of a message of TensorFlow's or of a server's, such as `is not a whole picture`."""
    return RefusedBatch("the model does not take it: " + last_line(message))
