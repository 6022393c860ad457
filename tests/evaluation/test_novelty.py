"""Novelty: against the definition and scikit-learn, and on images that are not of the training's kind."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from kerasft.evaluation import novelty
from kerasft.evaluation.novelty import Novelty


def _features(count: int, classes: int = 3, size: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    mixing, centres = np.random.default_rng(99).normal(0, 1, (size, size)), np.eye(size)[:classes] * 6
    return (rng.normal(0, 1, (count, size)) + centres[labels]) @ mixing + 5, labels


def test_energy_is_minus_the_log_of_the_summed_exponentials():
    outputs = np.array([[0.0, 0.0], [np.log(3), 0.0], [1000.0, 0.0]], np.float32)
    np.testing.assert_allclose(novelty.energy(outputs), [-np.log(2), -np.log(4), -1000], rtol=1e-6)


def test_the_distance_is_that_of_mahalanobis_to_the_nearest_class():
    features, labels = _features(300)
    distance = novelty.fit_distance(features, labels)
    scale = features.std(0)
    standardised = (features - features.mean(0)) / scale
    centres = np.stack([standardised[labels == place].mean(0) for place in range(3)])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(standardised - centres[labels]).covariance_)
    gaps = standardised[:, None] - centres
    expected = np.sqrt(np.einsum("npd,de,npe->np", gaps, precision, gaps).min(1) / 6)
    np.testing.assert_allclose(novelty.measure(distance, features), expected, rtol=1e-4)
    # A usual image has about 1.
    assert 0.8 < expected.mean() < 1.2


def test_without_labels_there_is_one_centre():
    features, _ = _features(50)
    assert novelty.fit_distance(features, None).points.shape == (1, 6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_images_than_features_and_dead_features_still_give_a_distance(count):
    features = np.hstack([_features(count, classes=1)[0], np.zeros((count, 3))])
    distance = novelty.fit_distance(features, np.zeros(count, int))
    near, far = novelty.measure(distance, np.stack([features[0], features[0] + 10]))
    assert np.isfinite([near, far]).all()
    assert far > near


def test_images_of_another_kind_lie_beyond_the_threshold_and_known_ones_within():
    distance = novelty.fit_distance(*_features(600))
    threshold = novelty.fit_threshold(novelty.measure(distance, _features(500, seed=1)[0]), 0.95)
    found = Novelty("distance", 0.95, threshold, distance)
    known = found.score(_features(500, seed=2)[0], np.zeros((500, 3))) <= threshold
    foreign = found.score(np.random.default_rng(3).normal(0, 30, (500, 6)), np.zeros((500, 3))) <= threshold
    assert known.mean() == pytest.approx(0.95, abs=0.03)
    assert foreign.mean() < 0.2


@pytest.mark.parametrize(("count", "keep", "kept"), [(100, 0.95, 95), (10, 0.95, 10), (20, 0.95, 19), (7, 0.5, 4)])
def test_the_threshold_keeps_at_least_the_share(count, keep, kept):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    assert (scores <= novelty.fit_threshold(scores, keep)).sum() == kept


def test_rows_are_compared_in_chunks_without_a_difference(monkeypatch):
    features, labels = _features(30)
    distance = novelty.fit_distance(features, labels)
    whole = novelty.measure(distance, features)
    monkeypatch.setattr(novelty, "CHUNK", 7)
    np.testing.assert_array_equal(novelty.measure(distance, features), whole)


def test_a_sample_of_many_images_is_spread_over_all(monkeypatch):
    monkeypatch.setattr(novelty, "MAX_IMAGES", 5)
    assert novelty.spread(3).tolist() == [0, 1, 2]
    assert novelty.spread(101).tolist() == [0, 25, 50, 75, 100]
