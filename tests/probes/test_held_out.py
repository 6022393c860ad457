"""Held-out predictions: every example is predicted by a probe that was not fitted on it."""

import numpy as np
import pytest

from kerasft.probes import folds, held_out, suspects


def blobs(classes: int, count: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell classes apart, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (rng.normal(0, 1, (count, 8)) + 4 * np.eye(8)[labels]).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("most", [5_000, 60])
def test_probabilities_of_classes(classes, most, monkeypatch):
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", most)
    features, labels = blobs(classes)
    labels[:3] = (labels[:3] + 1) % classes
    found = held_out.predict(features, labels, classes + 1, "single_label", 0)
    assert found.shape == (150, classes + 1)
    np.testing.assert_allclose(found.sum(1), 1)
    assert not found[:, classes].any()
    # A wrong label speaks for itself only where it is fitted on.
    assert (found[:3].argmax(1) != labels[:3]).all()
    assert (found[3:].argmax(1) == labels[3:]).mean() > 0.95


def test_labels_of_several(monkeypatch):
    features, labels = blobs(3)
    both = np.eye(4, dtype=np.float32)[labels]
    found = held_out.predict(features, both, 4, "multi_label", 0)
    assert ((found[:, :3] > 0.5) == both[:, :3]).mean() > 0.95
    assert np.isnan(found[:, 3]).all()


@pytest.mark.parametrize("most", [5_000, 60])
def test_values_are_in_their_own_units(most, monkeypatch):
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", most)
    features, _ = blobs(3)
    values = np.stack([1000 + 50 * features[:, 0], features[:, 1]], 1)
    found = held_out.predict(features, values, 2, "regression", 0)
    np.testing.assert_allclose(found[:, 0], values[:, 0], atol=15)
    np.testing.assert_allclose(found[:, 1], values[:, 1], atol=0.3)


def _with_rare_examples(task):
    """Blobs of 150 examples, of which rows 0 to 2 alone have the last class or label; and the group of each."""
    features, labels = blobs(3)
    groups = np.maximum(np.arange(150) - 2, 0)
    labels[:3] = 3
    return features, labels if task == "single_label" else np.eye(4, dtype=np.float32)[labels], groups


@pytest.mark.parametrize("most", [5_000, 60])
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_only_group_of_a_class_is_not_judged(task, most, monkeypatch):
    """The probe that would judge it has never seen the class."""
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", most)
    features, labels, groups = _with_rare_examples(task)
    found = held_out.predict(features, labels, 4, task, 0, groups)
    assert np.isnan(found[:3]).all() and np.isfinite(found[3:, :3]).all()
    judge = suspects.judge_classes if task == "single_label" else suspects.judge_label_sets
    assert not judge(labels, found)[1].any()
    # Where other groups have the class too, they are judged.
    found = held_out.predict(features, labels, 4, task, 0, np.arange(150))
    assert np.isfinite(found[:3]).any()


@pytest.mark.parametrize("most", [5_000, 60])
def test_the_only_group_of_one_of_two_classes_is_not_judged(most, monkeypatch):
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", most)
    features, labels, groups = _with_rare_examples("single_label")
    found = held_out.predict(features, (labels == 3).astype(np.int32), 2, "single_label", 0, groups)
    assert np.isnan(found[:3]).all() and np.isfinite(found[3:]).mean() > 0.5


def test_where_nothing_can_be_held_out():
    features, labels = blobs(3, 6)
    assert np.isnan(held_out.predict(features, np.zeros(6, np.int32), 3, "single_label", 0)).all()
    labels[:] = [0, 0, 0, 0, 0, 1]
    found = held_out.predict(features, labels, 3, "single_label", 0)
    assert np.isnan(found[5]).all() and np.isfinite(found[:5]).all()
