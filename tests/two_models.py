"""A served model and a new one: made-up answers for the same images."""

import numpy as np

from kerasft.evaluation import gate
from kerasft.evaluation.gate import Both, Side

CLASSES = ("a", "b")


def single(right_before: list[bool], right_after: list[bool], labels: list[int]) -> Both:
    """Two classes, each image answered with 0.9 for what is right or for what is wrong."""
    labels = np.array(labels, np.int32)

    def side(right: list[bool]) -> Side:
        guess = np.where(right, labels, 1 - labels)
        answers = np.where(np.arange(2) == guess[:, None], 0.9, 0.1)
        return Side(answers, -np.log(answers[np.arange(len(labels)), labels]))

    return Both(np.array([f"{i}.jpg" for i in range(len(labels))]), labels, side(right_before), side(right_after))


def compared(both: Both, task: str = "single_label") -> dict:
    return gate.compare(task, CLASSES, both, lambda answers: float(answers.mean()), None)
