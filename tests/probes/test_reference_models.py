"""Baselines on features: against scikit-learn, in every task, and where there is little to fit them on."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid

from kerasft.evaluation.scoring import Scorer
from kerasft.probes import reference_models
from kerasft.probes.reference_models import Features

CLASSES = 3


def _clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows float32 [count, 8] around a centre for each class, and their classes int32 [count]."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    centres = np.random.default_rng(0).normal(0, 1, (CLASSES, 8))
    return (centres[labels] + rng.normal(0, 0.9, (count, 8))).astype(np.float32), labels


def _case(task: str, val: int = 60) -> tuple[Features, Scorer, np.ndarray]:
    """Features, scorer of validation, and labels of the test images."""
    parts = [_clusters(count, seed) for count, seed in ((90, 1), (val, 2), (40, 3))]
    rows, labels = [part[0] for part in parts], [part[1] for part in parts]
    if task == "multi_label":
        labels = [np.eye(CLASSES, dtype=np.float32)[part] for part in labels]
    if task == "regression":
        labels = [part[:, :2] @ np.array([[1.0, 2.0], [3.0, -1.0]], np.float32) for part in rows]
    outputs = CLASSES if task != "regression" else 2
    scorer = Scorer(task, labels[1], labels[0].std(0) if task == "regression" else None)
    return Features(*rows, labels[0], outputs), scorer, labels[2]


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_every_task_has_baselines_that_beat_a_constant(task):
    features, scorer, labels = _case(task)
    found = reference_models.fit(features, scorer, seed=0)
    names = ["nearest_neighbours", "boosted_trees"]
    assert list(found) == (names if task != "single_label" else ["nearest_centroid", *names])
    tested = Scorer(task, labels, scorer.scale)
    mean = np.eye(CLASSES)[features.labels].mean(0) if task == "single_label" else features.labels.mean(0)
    constant = np.log(mean) if task == "single_label" else np.log(mean / (1 - mean)) if task == "multi_label" else mean
    for baseline in found.values():
        outputs = baseline.answer(features.test)
        assert outputs.shape == (40, features.outputs) and np.isfinite(outputs).all() and baseline.bytes > 0
        assert tested.loss(outputs) < 0.8 * tested.loss(np.tile(constant, (40, 1)))


@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_baselines_predict_the_quantile_that_the_network_does(quantile):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(900, 4)).astype(np.float32)
    labels = (rows[:, :1] + rng.exponential(1, (900, 1))).astype(np.float32)
    scorer = Scorer("regression", labels[500:700], labels[:500].std(0), error="pinball", quantile=quantile)
    found = reference_models.fit(Features(rows[:500], rows[500:700], rows[700:], labels[:500], 1), scorer, seed=0)
    assert list(found) == ["nearest_neighbours", "boosted_trees"]
    of_mean = replace(scorer, error="squared")
    means = reference_models.fit(Features(rows[:500], rows[500:700], rows[700:], labels[:500], 1), of_mean, seed=0)
    tested = replace(scorer, labels=labels[700:])
    for name, baseline in found.items():
        assert tested.loss(baseline.answer(rows[700:])) < 0.8 * tested.loss(means[name].answer(rows[700:]))


def test_the_nearest_centroid_is_scikit_learns():
    features, scorer, _ = _case("single_label")
    expected = NearestCentroid().fit(features.train, features.labels).predict(features.test)
    np.testing.assert_array_equal(
        reference_models.nearest_centroid(features, scorer)(features.test).argmax(-1), expected
    )


def test_one_image_a_class_is_enough_for_a_centroid():
    features, scorer, labels = _case("single_label")
    features = features._replace(train=features.train[:CLASSES], labels=features.labels[:CLASSES])
    found = reference_models.nearest_centroid(features, scorer)(features.test)
    assert np.isfinite(found).all()
    assert (found.argmax(-1) == labels).mean() > 0.5


def test_the_nearest_neighbours_are_scikit_learns(monkeypatch):
    monkeypatch.setattr(reference_models, "NEIGHBOURS", (7,))
    features, scorer, _ = _case("single_label")
    given = {"n_neighbors": 7, "metric": "cosine", "algorithm": "brute"}
    shares = KNeighborsClassifier(**given).fit(features.train, features.labels).predict_proba(features.test)
    found = np.exp(reference_models.nearest_neighbours(features, scorer)(features.test))
    np.testing.assert_allclose(found, (7 * shares + 1 / CLASSES) / 8, rtol=1e-6)
    features, scorer, _ = _case("regression")
    values = KNeighborsRegressor(**given).fit(features.train, features.labels).predict(features.test)
    np.testing.assert_allclose(
        reference_models.nearest_neighbours(features, scorer)(features.test), values, rtol=1e-4, atol=1e-5
    )


def test_two_validation_images_choose_no_number_of_neighbours():
    features, scorer, _ = _case("single_label", val=2)
    assert np.isfinite(reference_models.nearest_neighbours(features, scorer)(features.test)).all()


def test_a_class_without_a_training_image_is_never_the_nearest():
    features, scorer, _ = _case("single_label")
    found = reference_models.nearest_centroid(features._replace(outputs=CLASSES + 1), scorer)(features.test)
    assert np.isfinite(found).all() and (found.argmax(-1) < CLASSES).all()


def test_too_many_images_have_no_nearest_neighbours(monkeypatch):
    monkeypatch.setattr(reference_models, "MAX_NEIGHBOUR_MACS", 10)
    features, scorer, _ = _case("single_label")
    assert list(reference_models.fit(features, scorer)) == ["nearest_centroid"]
