"""Figures against scikit-learn and against numbers worked out by hand."""

import keras
import numpy as np
import pytest
import sklearn.metrics

from kerasft import evaluate


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80).astype(np.int32)
    logits = rng.normal(0, 3, (80, 4)) + 2 * np.eye(4)[labels]
    return logits, labels


def test_report_is_scikit_learns(scored):
    logits, labels = scored
    found = evaluate.report(logits, labels, ("a", "b", "c", "d"))
    guess = logits.argmax(1)
    assert found["n"] == 80
    assert found["accuracy"] == sklearn.metrics.accuracy_score(labels, guess)
    assert found["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, evaluate.probabilities(logits)))
    assert found["confusion_matrix"] == sklearn.metrics.confusion_matrix(labels, guess).tolist()
    assert found["per_class"]["b"]["recall"] == sklearn.metrics.recall_score(labels, guess, average=None)[1]
    assert sum(row["n"] for row in found["per_class"].values()) == 80


def test_log_loss_is_finite_for_a_sure_mistake():
    assert evaluate.log_loss(np.array([[1000.0, 0.0]]), np.array([1])) == pytest.approx(1000)


def test_a_class_without_examples_is_in_the_report(scored):
    logits, labels = scored
    found = evaluate.report(logits[labels != 3], labels[labels != 3], ("a", "b", "c", "d"))
    assert found["per_class"]["d"]["n"] == 0
    assert len(found["confusion_matrix"]) == 4


def test_temperature_minimises_the_log_loss(scored):
    logits, labels = scored
    best = evaluate.temperature(logits, labels)
    losses = {t: evaluate.log_loss(logits / t, labels) for t in np.geomspace(1 / 8, 8, 200)}
    assert best == pytest.approx(min(losses, key=losses.get), rel=0.03)
    assert evaluate.temperature(logits / best, labels) == pytest.approx(1, abs=0.01)


def test_a_predictor_sees_the_weights_of_now():
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    predict = evaluate.predictor(model)
    batches = [np.ones((3, 2, 2, 3), np.float32), np.ones((1, 2, 2, 3), np.float32)]
    first = predict(batches)
    model.set_weights([weight * 2 for weight in model.get_weights()])
    np.testing.assert_allclose(predict(batches), 2 * first, rtol=1e-5)
    assert first.shape == (4, 2)


def test_the_most_cautious_candidate_that_is_not_measurably_worse():
    rng = np.random.default_rng(0)
    best = rng.gamma(1, 0.3, 400)
    equal, worse = best + rng.normal(0.001, 0.1, 400), best + rng.normal(0.1, 0.1, 400)
    assert evaluate.most_cautious([best]) == 0
    assert evaluate.most_cautious([worse, equal, best]) == 1
    assert evaluate.most_cautious([worse, worse + 1, best]) == 2
    few = slice(0, 3)  # with three examples nothing is measurable
    assert evaluate.most_cautious([best[few] + [0.5, -0.4, 0.3], best[few]]) == 0
