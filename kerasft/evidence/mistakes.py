"""Mistakes: the most confident wrong predictions, with their images."""

from typing import NamedTuple

import numpy as np

from kerasft.console.wording import number, percent
from kerasft.evidence.predictions import Predictions, Section
from kerasft.evidence.thumbnails import to_data_uri

# At most so many mistakes are shown.
MAX_IMAGES = 12


class Mistake(NamedTuple):
    """A wrong prediction.

    Attributes:
        index: position in the test split.
        labels: wrong labels of the image (multi-label), the worst first; the predicted one (single label);
            targets, the worst first (regression).
    """

    index: int
    labels: tuple[int, ...]


def mistakes(predictions: Predictions) -> Section:
    """Cards with the image (a data URI), the file, and lines of (what, name, value). Only their images are read."""
    found = find_mistakes(predictions.task, predictions.outputs, predictions.labels, predictions.thresholds, MAX_IMAGES)
    images = predictions.images(np.array([mistake.index for mistake in found])) if found else []
    cards = []
    for mistake, pixels in zip(found, images):
        lines, file = _lines(predictions, mistake), str(predictions.ids[mistake.index])
        alt = ", ".join(" ".join(filter(None, line)) for line in lines)
        cards.append({"image": to_data_uri(pixels), "file": file, "lines": lines, "alt": f"{file}: {alt}"})
    return Section("mistakes", {}, {"mistakes": cards})


def find_mistakes(
    task: str, outputs: np.ndarray, labels: np.ndarray, thresholds: np.ndarray | None, most: int
) -> list[Mistake]:
    """Returns at most so many wrong predictions of a task, the worst first; arguments as in `Predictions`."""
    if task == "single_label":
        return single_label_mistakes(outputs, labels, most)
    if task == "multi_label":
        return multi_label_mistakes(outputs, labels, thresholds, most)
    return regression_mistakes(outputs, labels, most)


def _lines(predictions: Predictions, mistake: Mistake) -> list[tuple[str, str, str]]:
    """Describes a wrong prediction in a few lines of (what, name, value)."""
    i, labels, classes = mistake.index, predictions.labels, predictions.classes
    scores = predictions.outputs[i]
    if predictions.task == "regression":
        return [(classes[j], number(scores[j]), f"true {number(labels[i, j])}") for j in mistake.labels[:3]]
    if predictions.task == "single_label":
        (guess,) = mistake.labels
        return [("labelled", classes[labels[i]], ""), ("taken for", classes[guess], percent(scores[guess]))]
    words = {True: "missed", False: "wrongly given"}
    return [(words[bool(labels[i, j])], classes[j], percent(scores[j])) for j in mistake.labels[:4]]


def single_label_mistakes(probabilities: np.ndarray, labels: np.ndarray, most: int) -> list[Mistake]:
    """Returns the wrong predictions, the most confident first: probabilities float [N, C], labels int [N]."""
    guess, sure = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(guess != labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    return [Mistake(int(index), (int(guess[index]),)) for index in chosen]


def multi_label_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, most: int
) -> list[Mistake]:
    """Returns images with wrong labels, ordered by the distance of the worst probability from the truth.

    Args:
        probabilities, labels: float [N, C].
        thresholds: float [C]; a label is predicted from its threshold on.
        most: images to return.
    """
    distance = np.where((probabilities >= thresholds) != (labels > 0), np.abs(probabilities - labels), 0)
    chosen = np.argsort(-distance.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-distance[i], kind="stable") if distance[i, j]))
        for i in chosen
        if distance[i].any()
    ]


def regression_mistakes(values: np.ndarray, labels: np.ndarray, most: int) -> list[Mistake]:
    """Returns the greatest errors, in standard deviations of each target: values and labels float [N, D]."""
    deviation = labels.std(0)
    errors = np.abs(values - labels) / np.where(deviation > 0, deviation, 1)
    chosen = np.argsort(-errors.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-errors[i], kind="stable"))) for i in chosen if errors[i].any()
    ]
