"""Conformal sets and intervals against MAPIE, another program: the same sets and intervals for the same images, ties and small samples included."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from kerasft.evaluation import conformal

CLASSES = 4
# (validation images, coverage): those of the smallest samples, whole ranks (10 * 0.8), and others. MAPIE refuses the very smallest.
CASES = [(10, 0.9), (9, 0.8), (19, 0.8), (19, 0.9), (20, 0.95), (29, 0.9), (100, 0.99), (199, 0.5), (300, 0.9)]


class Given(ClassifierMixin, BaseEstimator):
    """Its probabilities are its inputs."""

    def fit(self, rows, labels):
        self.classes_, self.n_features_in_ = np.arange(CLASSES), CLASSES
        return self

    def predict_proba(self, rows):
        return rows

    def predict(self, rows):
        return rows.argmax(1)


class GivenValue(RegressorMixin, BaseEstimator):
    """Its value is its input."""

    def fit(self, rows, labels):
        self.n_features_in_ = 1
        return self

    def predict(self, rows):
        return rows[:, 0]


@pytest.mark.parametrize(("count", "coverage"), CASES)
@pytest.mark.parametrize("tied", [False, True])
def test_sets_are_mapies(count, coverage, tied):
    from mapie.classification import SplitConformalClassifier

    rng = np.random.default_rng(count)
    probabilities = rng.dirichlet(np.ones(CLASSES), count + 200)
    if tied:
        # Five different rows, so that most probabilities come many times, at the threshold too.
        probabilities = probabilities[rng.integers(0, 5, len(probabilities))]
    labels = (rng.random((len(probabilities), 1)) > probabilities.cumsum(-1)).sum(-1).clip(max=CLASSES - 1)
    # MAPIE wants to see every class.
    labels[:CLASSES] = range(CLASSES)
    val, test = slice(0, count), slice(count, None)
    theirs = SplitConformalClassifier(
        Given().fit(None, None), confidence_level=coverage, prefit=True, conformity_score="lac"
    )
    theirs.conformalize(probabilities[val], labels[val])
    expected = theirs.predict_set(probabilities[test])[1][:, :, 0]
    found = conformal.fit_sets(probabilities[val], labels[val], coverage)
    np.testing.assert_array_equal(conformal.label_sets(found, probabilities[test]), expected)


@pytest.mark.parametrize(("count", "coverage"), CASES)
@pytest.mark.parametrize("tied", [False, True])
def test_intervals_are_mapies(count, coverage, tied):
    from mapie.regression import SplitConformalRegressor

    rng = np.random.default_rng(count)
    values = rng.normal(0, 3, (count + 50, 1))
    labels = values + rng.standard_t(3, values.shape)
    if tied:
        values, labels = values.round(), labels.round()
    theirs = SplitConformalRegressor(GivenValue().fit(None, None), confidence_level=coverage, prefit=True)
    theirs.conformalize(values[:count], labels[:count, 0])
    expected = theirs.predict_interval(values[count:])[1][:, :, 0]
    radius = conformal.fit_intervals(values[:count], labels[:count], coverage).radius
    found = np.concatenate([values[count:] - radius, values[count:] + radius], 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
