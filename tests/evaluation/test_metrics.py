"""The figures of metrics.json against scikit-learn and against numbers worked out by hand."""

import json

import numpy as np
import pytest
import sklearn.metrics

from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Scorer

NAMES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 80).astype(np.int32)
    return rng.normal(0, 3, (80, 6)) + 2 * np.eye(6)[labels], labels


def test_single_label(scored):
    logits, labels = scored
    found = metrics.compute(Scorer("single_label", labels), logits, NAMES)
    guess = logits.argmax(1)
    assert found["n"] == 80
    assert found["accuracy"] == sklearn.metrics.accuracy_score(labels, guess)
    assert found["top5_accuracy"] == sklearn.metrics.top_k_accuracy_score(labels, logits, k=5)
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, guess, average="macro"))
    probabilities = scoring.apply_activation("single_label", logits)
    assert found["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    assert found["confusion_matrix"] == sklearn.metrics.confusion_matrix(labels, guess).tolist()
    assert found["per_class"]["b"]["recall"] == sklearn.metrics.recall_score(labels, guess, average=None)[1]
    assert sum(row["n"] for row in found["per_class"].values()) == 80
    json.dumps(found)


def test_top5_needs_more_than_five_classes(scored):
    logits, labels = scored
    few = labels < 5
    assert "top5_accuracy" not in metrics.compute(Scorer("single_label", labels[few]), logits[few, :5], NAMES[:5])


def test_a_class_without_examples_is_in_the_report(scored):
    logits, labels = scored
    rest = labels != 3
    found = metrics.compute(Scorer("single_label", labels[rest]), logits[rest], NAMES)
    assert found["per_class"]["d"]["n"] == 0
    assert len(found["confusion_matrix"]) == 6
    expected = sklearn.metrics.f1_score(labels[rest], logits[rest].argmax(1), average=None, labels=[0, 1, 2, 4, 5])
    assert found["macro_f1"] == pytest.approx(expected.mean())


def test_multi_label(scored):
    logits, labels = scored
    truth = np.maximum(np.eye(6)[labels], np.eye(6)[(labels + 1) % 6]).astype(np.float32)
    truth[:, 5] = 0  # a class that does not occur
    limits = np.full(6, 0.6, np.float32)
    found = metrics.compute(Scorer("multi_label", truth), logits, NAMES, limits)
    p = scoring.apply_activation("multi_label", logits)
    guess = p >= 0.6
    assert found["map"] == pytest.approx(sklearn.metrics.average_precision_score(truth[:, :5], p[:, :5]), rel=1e-5)
    assert found["micro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, guess, average="micro"))
    assert found["exact_match"] == sklearn.metrics.accuracy_score(truth, guess)
    assert found["loss"] == pytest.approx(Scorer("multi_label", truth).loss(logits))
    assert found["per_class"]["a"]["threshold"] == pytest.approx(0.6)
    assert found["per_class"]["f"]["average_precision"] is None
    assert found["per_class"]["f"]["n"] == 0
    json.dumps(found, allow_nan=False)


def test_regression():
    rng = np.random.default_rng(0)
    labels = rng.normal(5, 3, (60, 2)).astype(np.float32)
    values = labels + rng.normal(0, 1, (60, 2)).astype(np.float32)
    found = metrics.compute(Scorer("regression", labels, labels.std(0)), values, ("x", "y"))
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(labels, values), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt(sklearn.metrics.mean_squared_error(labels, values)), rel=1e-5)
    assert found["r2"] == pytest.approx(sklearn.metrics.r2_score(labels, values), rel=1e-5)
    assert found["per_target"]["y"]["r2"] == pytest.approx(
        sklearn.metrics.r2_score(labels[:, 1], values[:, 1]), rel=1e-5
    )
    assert found["scaled_mae"] == pytest.approx((np.abs(values - labels).mean(0) / labels.std(0)).mean(), rel=1e-5)
    assert found["per_target"]["y"]["deviation"] == pytest.approx(labels[:, 1].std())
    still = metrics.compute(Scorer("regression", labels * 0, np.ones(2)), values, ("x", "y"))
    assert still["r2"] is still["per_target"]["x"]["r2"] is None
    labels[:, 0] = 7  # a target that does not vary in this split has no R2, and takes none from the other
    half = metrics.compute(Scorer("regression", labels, np.ones(2)), values, ("x", "y"))
    assert half["per_target"]["x"]["r2"] is None
    assert half["r2"] == half["per_target"]["y"]["r2"]
    json.dumps(still, allow_nan=False)


def test_a_quantile_has_a_coverage():
    labels = np.arange(10, dtype=np.float32)[:, None]
    scorer = Scorer("regression", labels, np.ones(1) * 2, error="pinball", quantile=0.8, weights=np.arange(10.0))
    found = metrics.compute(scorer, np.full((10, 1), 7.0, np.float32), ("x",))
    assert (found["quantile"], found["coverage"]) == (0.8, 0.8)
    assert found["pinball"] == pytest.approx(2 * found["loss"])
    (row,) = found["per_target"].values()
    assert (row["coverage"], row["pinball"]) == (0.8, pytest.approx(found["pinball"]))
    # 0.8 of 1 and 2 above, 0.2 of 1 to 7 below, in deviations of 2.
    assert found["loss"] == pytest.approx((0.8 * 3 + 0.2 * 28) / 2 / 10)
    assert "coverage" not in metrics.compute(Scorer("regression", labels, np.ones(1)), labels, ("x",))


def test_thresholds_give_the_best_f1(scored):
    logits, labels = scored
    p = np.concatenate([scoring.apply_activation("multi_label", logits)] * 2)  # ten positives of each at least
    truth = np.eye(6)[np.tile(labels, 2)]
    truth[:, 4], truth[:, 5] = 0, 1
    found = metrics.fit_thresholds(p, truth)
    for i in range(4):
        reached = sklearn.metrics.f1_score(truth[:, i], p[:, i] >= found[i])
        best = max(sklearn.metrics.f1_score(truth[:, i], p[:, i] >= t) for t in np.append(p[:, i], 2.0))
        assert reached == best
    assert found[4] == found[5] == 0.5
    assert found.dtype == np.float32


def test_errors_of_targets_of_different_scale_are_told_in_their_deviations():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 1, (50, 2)) * [1e4, 1e-3]
    scale = labels.std(0)
    found = metrics.compute(Scorer("regression", labels, scale), (labels + 0.5 * scale).astype(np.float32), ("x", "y"))
    assert found["scaled_mae"] == pytest.approx(0.5, rel=1e-3)
    assert found["scaled_rmse"] == pytest.approx(0.5, rel=1e-3)
    for name, deviation in zip("xy", scale):
        assert found["per_target"][name]["mae"] == pytest.approx(0.5 * deviation, rel=1e-3)
        assert found["per_target"][name]["scaled_mae"] == pytest.approx(0.5, rel=1e-3)


def test_a_class_that_the_split_lacks_has_no_figures(scored):
    """None, not 0: nothing was measured."""
    logits, labels = scored
    rest = labels != 3
    for task, truth in (("single_label", labels), ("multi_label", np.eye(6)[labels])):
        found = metrics.compute(Scorer(task, truth[rest]), logits[rest], NAMES, np.full(6, 0.5))["per_class"]["d"]
        assert found["n"] == 0
        assert found["precision"] is found["recall"] is found["f1"] is None
    nothing = metrics.compute(Scorer("multi_label", np.zeros((9, 6))), logits[:9], NAMES, np.full(6, 0.5))
    assert nothing["map"] is nothing["macro_f1"] is None
    json.dumps(nothing, allow_nan=False)


def test_few_positives_choose_no_threshold_of_their_own():
    rng = np.random.default_rng(0)
    truth = np.zeros((200, 5))
    truth[:60, 0] = 1
    for label in (1, 2, 3):  # four positives each: twelve together
        truth[rng.choice(200, 4, replace=False), label] = 1
    p = np.clip(0.3 * truth + rng.uniform(0, 0.6, truth.shape), 0, 1)
    found = metrics.fit_thresholds(p, truth)
    assert found[1] == found[2] == found[3] != found[0]
    reached = sklearn.metrics.f1_score(truth[:, 1:4].ravel(), p[:, 1:4].ravel() >= found[1])
    assert reached == max(
        sklearn.metrics.f1_score(truth[:, 1:4].ravel(), p[:, 1:4].ravel() >= t) for t in p[:, 1:4].ravel()
    )
    assert found[4] == 0.5
    assert list(metrics.fit_thresholds(p[:, [0, 1, 4]], truth[:, [0, 1, 4]])[1:]) == [0.5, 0.5]  # four alone


def test_a_single_label_has_figures_of_its_own():
    rng = np.random.default_rng(3)
    truth, logits = rng.integers(0, 2, (40, 1)).astype(np.float32), rng.normal(size=(40, 1))
    found = metrics.compute(Scorer("multi_label", truth), logits, ("defect",), np.array([0.5]))
    named = logits[:, 0] >= 0
    expected = sklearn.metrics.f1_score(truth[:, 0], named)
    row = found["per_class"]["defect"]
    assert (row["f1"], found["micro_f1"], found["macro_f1"]) == (pytest.approx(expected),) * 3
    assert row["precision"] == pytest.approx(sklearn.metrics.precision_score(truth[:, 0], named))
    assert row["n"] == truth.sum()
