"""Figures against scikit-learn and against numbers worked out by hand."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import sklearn.metrics

from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Scorer


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80).astype(np.int32)
    logits = rng.normal(0, 3, (80, 4)) + 2 * np.eye(4)[labels]
    return logits, labels


def test_losses_are_those_of_the_formulas(scored):
    logits, labels = scored
    p = scoring.apply_activation("single_label", logits)
    assert Scorer("single_label", labels).loss(logits) == pytest.approx(sklearn.metrics.log_loss(labels, p))
    several = np.eye(4, dtype=np.float32)[labels]
    p = scoring.apply_activation("multi_label", logits)
    expected = -np.where(several > 0, np.log(p), np.log1p(-p)).mean()
    assert Scorer("multi_label", several).loss(logits) == pytest.approx(expected)
    values = logits[:, :2].astype(np.float32)
    scorer = Scorer("regression", values + np.array([2, -6]), scale=np.array([2.0, 3.0]))
    assert scorer.loss(values) == pytest.approx((1 + 4) / 2)
    assert Scorer("regression", values + np.array([2, -6]), np.array([2.0, 3.0]), error="absolute").loss(
        values
    ) == pytest.approx(1.5)
    huber = Scorer("regression", values + np.array([1, -6]), np.array([2.0, 3.0]), error="huber")
    assert huber.loss(values) == pytest.approx((0.125 + 1.5) / 2)


def test_scores_are_scikit_learns(scored):
    logits, labels = scored
    accuracy = sklearn.metrics.accuracy_score(labels, logits.argmax(1))
    assert Scorer("single_label", labels).score(logits) == accuracy
    several = np.eye(4)[labels]
    expected = sklearn.metrics.average_precision_score(several, logits, average="macro")
    assert Scorer("multi_label", several).score(logits) == pytest.approx(expected)
    assert Scorer("regression", logits[:, :1] + 3, np.ones(1) * 5).score(logits[:, :1]) == pytest.approx(3)
    scales = np.array([1, 10, 100, 1e6])  # of several targets, in their deviations
    assert Scorer("regression", logits + 3 * scales, scales).score(logits) == pytest.approx(3)
    assert Scorer("regression", logits[:, :1] + 3, np.ones(1) * 5).scaled_error(logits[:, :1]) == pytest.approx(3 / 5)


def test_weights_count(scored):
    logits, labels = scored
    weights = np.where(labels == 0, 4.0, 0.0)
    expected = 4 * scoring.Scorer("single_label", labels).losses(logits)[labels == 0].sum() / len(labels)
    assert Scorer("single_label", labels, weights=weights).loss(logits) == pytest.approx(expected)


def test_a_loss_is_finite_for_a_sure_mistake():
    assert Scorer("single_label", np.array([1])).loss(np.array([[1000.0, 0.0]])) == pytest.approx(1000)
    assert Scorer("multi_label", np.array([[1.0, 0.0]])).loss(np.array([[-1000.0, 1000.0]])) == pytest.approx(1000)


def test_temperature_minimises_the_log_loss(scored):
    logits, labels = scored
    for scorer in (Scorer("single_label", labels), Scorer("multi_label", np.eye(4)[labels])):
        best = scorer.temperature(logits)
        losses = {t: scorer.loss(logits / t) for t in np.geomspace(1 / 2, 8, 200)}
        assert best == pytest.approx(min(losses, key=losses.get), rel=0.03)
        assert scorer.temperature(logits / best) == pytest.approx(1, abs=0.01)
    assert Scorer("regression", logits, np.ones(4)).temperature(logits) == 1


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_few_images_all_of_them_right_do_not_ask_for_certainty(task):
    """Fifteen that are right at 0.8 each say little of the sixteenth; three thousand do."""
    for count, least, most in ((15, 0.75, 1.6), (3000, 0.5, 0.55)):
        labels = np.arange(count) % 3
        logits = np.log(0.8 / 0.1) * np.eye(3)[labels] + (0.0 if task == "single_label" else np.log(0.1 / 0.9))
        scorer = Scorer(task, labels if task == "single_label" else np.eye(3)[labels])
        assert least <= scorer.temperature(logits) <= most


def test_smoothed_losses_are_those_of_smoothed_labels(scored):
    import keras

    logits, labels = scored
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3, reduction="none")
    found = Scorer("single_label", labels).losses(logits, 0.3)
    np.testing.assert_allclose(found, cross_entropy(np.eye(4)[labels], logits), rtol=1e-5)
    binary = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.3, reduction="none")
    found = Scorer("multi_label", np.eye(4)[labels]).losses(logits, 0.3)
    np.testing.assert_allclose(found, binary(np.eye(4)[labels], logits), rtol=1e-5)


def test_a_predictor_sees_the_weights_of_now():
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    predict = scoring.make_predictor(model)
    batches = [np.ones((3, 2, 2, 3), np.float32), np.ones((1, 2, 2, 3), np.float32)]
    first = predict(batches)
    model.set_weights([weight * 2 for weight in model.get_weights()])
    np.testing.assert_allclose(predict(batches), 2 * first, rtol=1e-5)
    assert first.shape == (4, 2)


def test_the_first_candidate_that_is_not_measurably_worse():
    rng = np.random.default_rng(0)
    best = rng.gamma(1, 0.3, 400)
    equal, worse = best + rng.normal(0.001, 0.1, 400), best + rng.normal(0.1, 0.1, 400)
    assert scoring.one_standard_error_rule([best]) == 0
    assert scoring.one_standard_error_rule([worse, equal, best]) == 1
    assert scoring.one_standard_error_rule([worse, worse + 1, best]) == 2
    assert scoring.one_standard_error_rule([worse, best], standard_errors=40.0) == 0
    assert scoring.one_standard_error_rule([equal, best], standard_errors=0.0) == int(equal.mean() > best.mean())
    few = slice(0, 3)  # with three examples nothing is measurable
    assert scoring.one_standard_error_rule([best[few] + [0.5, -0.4, 0.3], best[few]]) == 0
    assert scoring.one_standard_error_rule([best[:1] + 1, best[:1]]) == 0  # of one no standard error


def test_fewer_than_five_images_choose_no_temperature():
    logits, labels = 9 * np.eye(3)[[0, 1, 2, 0, 1]], np.array([0, 1, 2, 0, 2])
    assert Scorer("single_label", labels).temperature(logits) > 2
    assert Scorer("single_label", labels[1:]).temperature(logits[1:]) == 1


def test_what_is_compared_is_the_loss_at_the_best_temperature(scored):
    logits, labels = scored
    scorer = Scorer("single_label", labels)
    temperature, losses = scorer.calibrated_losses(logits * 9)
    assert losses.mean() == scorer.loss(logits * 9 / temperature) < scorer.loss(logits * 9)
    assert scorer.calibrated_loss_and_score(logits * 9) == (losses.mean(), scorer.score(logits))
    logits[3, 1] = np.nan
    assert np.isnan(scorer.calibrated_loss_and_score(logits)[0])
    assert np.isnan(Scorer("multi_label", np.eye(4)[labels]).calibrated_loss_and_score(logits)[0])


def test_a_batch_that_does_not_fit_into_memory_is_halved(monkeypatch):
    import keras
    import tensorflow as tf

    from kerasft.settings.errors import UserError

    inputs = keras.Input((2,))
    model, limit, function = keras.Model(inputs, inputs * 2), [3], tf.function

    def small(call, **given):
        graph = function(call, **given)

        def run(batch):
            if len(batch) > limit[0]:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return graph(batch)

        return run

    monkeypatch.setattr(tf, "function", small)
    predict, rows = scoring.make_predictor(model), np.arange(26, dtype=np.float32).reshape(13, 2)
    for _ in range(2):
        np.testing.assert_array_equal(predict([tf.constant(rows[:8]), tf.constant(rows[8:])]), rows * 2)
    limit[0] = 0
    with pytest.raises(UserError, match="--image_size: not even one image fits into memory"):
        predict([tf.constant(rows)])


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_is_judged_with_its_own_delta(delta):
    rng = np.random.default_rng(5)
    labels, values = rng.normal(size=(30, 2)), 2 * rng.normal(size=(30, 2))
    found = Scorer("regression", labels, np.ones(2), error="huber", delta=delta).loss(values)
    assert found == pytest.approx(float(keras.losses.Huber(delta)(labels, values)), rel=1e-5)


@pytest.mark.parametrize("targets", [1, 2])
def test_a_quantile_is_scored_by_its_pinball_loss_in_the_units_of_its_metrics(targets):
    """The median has the lower absolute error, and is not what was asked for."""
    rng = np.random.default_rng(0)
    scale = np.array([5.0, 0.1])[:targets]
    labels = (scale * rng.normal(size=(400, targets))).astype(np.float32)
    median, high = np.zeros_like(labels), np.broadcast_to(1.2816 * scale, labels.shape).astype(np.float32)
    scorer = Scorer("regression", labels, scale, error="pinball", quantile=0.9)
    assert (scorer.asked_quantile, scorer.name, scorer.key, scorer.title) == (
        0.9,
        *["pinball"] * 2,
        "mean pinball loss",
    )
    assert scorer.score(high) < scorer.score(median)
    names = ("a", "b")[:targets]
    assert scorer.score(high) == pytest.approx(metrics.compute(scorer, high, names)["pinball"])
    assert scorer.scaled_error(high) == pytest.approx(scorer.loss(high))
    for other in (replace(scorer, quantile=0.5), replace(scorer, error="absolute")):
        assert (other.asked_quantile, other.name) == (None, "mae") and other.score(high) > other.score(median)
