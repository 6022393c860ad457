"""The accuracy under other shares of the classes is a reweighted mean of the recalls."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from test_evidence_contract import example

from kerasft.evidence.label_shift import doubled, label_shift


def test_it_is_the_accuracy_of_the_images_of_one_class_taken_twice():
    given = example("single_label", 90)
    right = given.outputs.argmax(-1) == given.labels
    counts = np.bincount(given.labels, minlength=3)
    recalls = np.array([right[given.labels == place].mean() for place in range(3)])
    for place, found in enumerate(doubled(recalls, counts)):
        twice = np.concatenate([right, right[given.labels == place]])
        assert found == pytest.approx(twice.mean())
    figures = label_shift(given).figures
    assert figures["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(given.labels, given.outputs.argmax(-1))
    )
    worst = int(doubled(recalls, counts).argmin())
    assert figures["worst_doubled"]["class"] == given.classes[worst]
    assert figures["worst_doubled"]["accuracy"] <= figures["accuracy"]


def test_a_class_without_a_test_image_is_left_out():
    given = example("single_label", 60)
    given = replace(given, labels=np.where(given.labels == 1, 0, given.labels))
    figures = label_shift(given).figures
    assert figures["worst_doubled"]["class"] != given.classes[1]
    assert np.isfinite(figures["balanced_accuracy"])
