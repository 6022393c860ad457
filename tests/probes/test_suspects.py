"""Suspects against their formulas, and planted errors."""

import numpy as np
import pytest

from kerasft.probes import suspects


def test_scores_and_thresholds_of_classes_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    p = np.array([[0.99, 0.01], [0.02, 0.98], [0.1, 0.9], [0.03, 0.97], [np.nan, np.nan]])
    scores, found = suspects.judge_classes(labels, p)
    np.testing.assert_allclose(scores[:4], [0.01, 0.98, 0.1, 0.03])
    assert np.isnan(scores[4])
    # Of class 1 the mean own probability is 0.935, and 0.98 is more.
    assert found.tolist() == [False, True, False, False, False]


def test_an_image_is_suspect_only_where_the_other_class_is_as_sure_as_usual():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.04, 0.96, 0.0], [0.99, 0.01, 0.0], [0.01, 0.99, 0.0], [0.01, 0.99, 0.0]])
    _, found = suspects.judge_classes(labels, p)
    assert not found.any()


def test_the_confident_joint_is_that_of_cleanlab(monkeypatch):
    """cleanlab 2.9 is the oracle, where it is installed: the same images without our stricter bound, the same margins."""
    filters, rank = pytest.importorskip("cleanlab.filter"), pytest.importorskip("cleanlab.rank")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    logits = rng.normal(0, 1, (400, 4)) + 3 * np.eye(4)[truth]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = truth.copy()
    labels[:30] = (labels[:30] + 1) % 4
    monkeypatch.setattr(suspects, "MIN_LABEL_SCORE", 0)
    scores, found = suspects.judge_classes(labels, p)
    expected = filters.find_label_issues(labels, p, filter_by="confident_learning")
    np.testing.assert_array_equal(found, expected)
    margins = rank.get_label_quality_scores(labels, p, method="normalized_margin")
    np.testing.assert_allclose(1 - scores, margins, atol=1e-12)


def test_label_sets_are_judged_label_by_label():
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    p = np.array([[0.95, 0.01], [0.02, 0.99], [0.05, 0.01], [0.05, np.nan]])
    scores, found = suspects.judge_label_sets(labels, p)
    np.testing.assert_allclose(scores, [0.05, 0.98, 0.05, 0.05])
    assert found.tolist() == [False, True, False, False]


def test_values_far_off_are_found_whatever_their_units():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (200, 2)) * [1000, 0.01]
    labels = values + rng.normal(0, 1, (200, 2)) * [10, 0.0001]
    labels[5, 1] += 0.002
    labels[9, 0] -= 500
    scores, found = suspects.judge_values(labels.astype(np.float32), values)
    assert {*np.flatnonzero(found)} == {5, 9}
    assert {*np.argsort(-scores)[:2]} == {5, 9}
    assert scores.min() >= 0 and scores.max() < 1
    assert not suspects.judge_values(labels, np.full((200, 2), np.nan))[1].any()


@pytest.mark.parametrize("most", [20_000, 100])
def test_outliers(most, monkeypatch):
    monkeypatch.setattr(suspects, "MAX_REFERENCES", most)
    monkeypatch.setattr(suspects, "_ROWS_PER_STEP", 64)
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (200, 6)).astype(np.float32)
    features[7] += 40
    found = suspects.find(features, np.zeros(200, np.int32), np.full((200, 2), np.nan), "single_label", 0)
    assert {*np.flatnonzero(found.is_outlier)} == {7}
    assert found.outlier_scores.argmax() == 7 and 0.75 < found.outlier_scores[7] < 1
    assert not found.is_suspect.any()


def test_distances_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    features = np.random.default_rng(1).normal(0, 1, (60, 5)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=10).fit(features).kneighbors()[0].mean(1)
    np.testing.assert_allclose(suspects.neighbour_distances(features, 0), expected, rtol=1e-4)


def test_few_images_have_no_outliers():
    assert not suspects.ranges_above(np.r_[np.zeros(20), 99.0]).any()
    assert suspects.neighbour_distances(np.ones((1, 3), np.float32), 0).tolist() == [0]


def test_most_of_the_flipped_labels_are_in_the_first_tenth():
    from kerasft.probes import held_out

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 400)
    features = (rng.normal(0, 1, (400, 20)) + 3 * np.eye(20)[truth]).astype(np.float32)
    labels, flipped = truth.copy(), rng.permutation(400)[:20]
    labels[flipped] = (labels[flipped] + rng.integers(1, 5, 20)) % 5
    predicted = held_out.predict(features, labels.astype(np.int32), 5, "single_label", 0)
    found = suspects.find(features, labels, predicted, "single_label", 0)
    first = np.argsort(-found.label_scores)[:40]
    assert np.isin(flipped, first).mean() >= 0.9
    assert np.isin(np.flatnonzero(found.is_suspect), flipped).mean() >= 0.8
