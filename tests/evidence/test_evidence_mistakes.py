"""Which mistakes are shown, and in which order."""

import numpy as np

from kerasft.evidence.mistakes import Mistake, multi_label_mistakes, regression_mistakes


def test_mistakes_of_many_labels_are_what_the_thresholds_decide():
    probabilities = np.array([[0.9, 0.45], [0.2, 0.35], [0.9, 0.1]])
    labels = np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    found = multi_label_mistakes(probabilities, labels, np.array([0.5, 0.3]), 12)
    assert found == [Mistake(0, (0,)), Mistake(1, (1,))]


def test_errors_of_targets_are_compared_by_their_deviations():
    labels = np.array([[0.0, 0.0], [1000.0, 1.0], [2000.0, 2.0]])
    values = labels + np.array([[100.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert regression_mistakes(values, labels, 2) == [
        Mistake(2, (1, 0)),
        Mistake(0, (0, 1)),
    ]
