"""Mistakes: the wrong answers that the network was surest of, with their images."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from kerasft.console.wording import number, percent
from kerasft.evidence.predictions import Predictions, Section

# Images of mistakes that are shown.
MAX_IMAGES = 12

# Longer side of such an image, in pixels.
THUMBNAIL_SIZE = 160


class Mistake(NamedTuple):
    """A wrong answer.

    Attributes:
        index: place in the test split.
        labels: wrong labels of the picture (multi-label), the worst first; the predicted one (single label);
            targets, the worst first (regression).
    """

    index: int
    labels: tuple[int, ...]


def mistakes(predictions: Predictions) -> Section:
    """Cards with the image (a data URI), the file, and lines of (what, name, value). Only their images are read."""
    labels, outputs = predictions.labels, predictions.outputs
    if predictions.task == "single_label":
        found = single_label_mistakes(outputs, labels, MAX_IMAGES)
    elif predictions.task == "multi_label":
        found = multi_label_mistakes(outputs, labels, predictions.thresholds, MAX_IMAGES)
    else:
        found = regression_mistakes(outputs, labels, MAX_IMAGES)
    pictures = predictions.thumbnails(np.array([mistake.index for mistake in found])) if found else []
    cards = []
    for mistake, picture in zip(found, pictures):
        lines, file = _lines(predictions, mistake), str(predictions.ids[mistake.index])
        alt = ", ".join(" ".join(filter(None, line)) for line in lines)
        cards.append({"image": _uri(picture), "file": file, "lines": lines, "alt": f"{file}: {alt}"})
    return Section("mistakes", {}, {"mistakes": cards})


def _lines(predictions: Predictions, mistake: Mistake) -> list[tuple[str, str, str]]:
    """What is wrong with an answer, in a few lines of (what, name, value)."""
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
    """Wrong answers, the surest first: probabilities float [N, C], labels int [N]."""
    guess, sure = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(guess != labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    return [Mistake(int(index), (int(guess[index]),)) for index in chosen]


def multi_label_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, most: int
) -> list[Mistake]:
    """Pictures with wrong labels, by the distance of the worst one's probability from the truth.

    Args:
        probabilities, labels: float [N, C].
        thresholds: float [C]; a label is given from its threshold on.
        most: pictures.
    """
    distance = np.where((probabilities >= thresholds) != (labels > 0), np.abs(probabilities - labels), 0)
    chosen = np.argsort(-distance.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-distance[i], kind="stable") if distance[i, j]))
        for i in chosen
        if distance[i].any()
    ]


def regression_mistakes(values: np.ndarray, labels: np.ndarray, most: int) -> list[Mistake]:
    """The greatest errors, in units of each target's deviation: values and labels float [N, D]."""
    deviation = labels.std(0)
    errors = np.abs(values - labels) / np.where(deviation > 0, deviation, 1)
    chosen = np.argsort(-errors.max(-1), kind="stable")[:most]
    return [
        Mistake(int(i), tuple(int(j) for j in np.argsort(-errors[i], kind="stable"))) for i in chosen if errors[i].any()
    ]


def _uri(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
