"""The nearest training images, against scikit-learn."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from kerasft.evaluation import neighbours


def test_they_are_those_of_scikit_learn(monkeypatch):
    rng = np.random.default_rng(0)
    training, features = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(11, 5)).astype(np.float32)
    distances, rows = NearestNeighbors(n_neighbors=3, metric="cosine").fit(training).kneighbors(features)
    monkeypatch.setattr(neighbours, "CHUNK", 4)
    found, similarities = neighbours.nearest(training, features, 3)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-6)


def test_fewer_training_images_than_asked_and_features_of_zeros():
    found, similarities = neighbours.nearest(np.eye(2), np.zeros((1, 2)), 3)
    assert found.shape == (1, 2)
    np.testing.assert_array_equal(similarities, 0)
