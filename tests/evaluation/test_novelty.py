"""Novelty: by hand, and on images that are not of the training's kind."""

import numpy as np
import pytest

from kerasft.evaluation import novelty
from kerasft.evaluation.novelty import Novelty


def _features(count: int, classes: int = 3, size: int = 16, seed: int = 0) -> np.ndarray:
    """Features of classes that lie in directions of their own."""
    return np.random.default_rng(seed).normal(0, 1, (count, size)) + 12 * np.eye(size)[np.arange(count) % classes]


def test_energy_is_minus_the_log_of_the_summed_exponentials():
    outputs = np.array([[0.0, 0.0], [np.log(3), 0.0], [1000.0, 0.0]], np.float32)
    np.testing.assert_allclose(novelty.energy(outputs), [-np.log(2), -np.log(4), -1000], rtol=1e-6)


def test_the_distance_is_one_minus_the_cosine_to_the_nearest():
    neighbours = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    features = np.array([[5.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(novelty.distance(neighbours, features), [0, 0.2, 1.6, 1, 0], atol=1e-7)


def test_features_get_the_length_one_and_none_stays_none():
    np.testing.assert_allclose(novelty.unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])


def test_images_of_another_kind_lie_beyond_the_threshold_and_known_ones_within():
    neighbours = novelty.unit_length(_features(600))
    threshold = novelty.fit_threshold(novelty.distance(neighbours, _features(500, seed=1)), 0.95)
    found = Novelty("distance", 0.95, threshold, neighbours)
    known = found.score(_features(500, seed=2), np.zeros((500, 3))) <= threshold
    foreign = found.score(_features(500, seed=3)[:, ::-1], np.zeros((500, 3))) <= threshold
    assert known.mean() == pytest.approx(0.95, abs=0.03)
    assert foreign.mean() < 0.05


@pytest.mark.parametrize(("count", "keep", "kept"), [(100, 0.95, 95), (10, 0.95, 10), (20, 0.95, 19), (7, 0.5, 4)])
def test_the_threshold_keeps_at_least_the_share(count, keep, kept):
    scores = np.random.default_rng(0).permutation(count).astype(float)
    assert (scores <= novelty.fit_threshold(scores, keep)).sum() == kept


def test_rows_are_compared_in_chunks_without_a_difference(monkeypatch):
    neighbours, features = novelty.unit_length(_features(20)), _features(30, seed=1)
    whole = novelty.distance(neighbours, features)
    monkeypatch.setattr(novelty, "CHUNK", 7)
    np.testing.assert_allclose(novelty.distance(neighbours, features), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("count", "width", "kept"), [(3, 10, [0, 1, 2]), (100, 20, [0, 20, 40, 60, 80]), (9, 1000, [0])]
)
def test_a_sample_of_many_images_is_spread_over_all(monkeypatch, count, width, kept):
    monkeypatch.setattr(novelty, "MAX_NUMBERS", 100)
    assert novelty.spread(count, width).tolist() == kept
