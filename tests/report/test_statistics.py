"""Intervals, calibration, the choice of mistakes, axes, and numbers in words."""

import numpy as np
import pytest
from sklearn import metrics as sk

from kerasft.report import figures, statistics, wording


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    """Newcombe 1998, table I, method 3."""
    assert statistics.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = statistics.bootstrap(lambda weights: float(weights @ values) / 400, 400)
    assert (high - low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1, abs=0.1)
    assert statistics.bootstrap(lambda weights: float(weights @ values) / 400, 400) == (low, high)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns_also_with_weights_and_ties(ties):
    rng = np.random.default_rng(5)
    scores, labels = rng.random((200, 4)), rng.random((200, 4)) < 0.3
    scores = scores.round(1) if ties else scores
    weights = rng.integers(0, 4, 200)
    found = statistics.average_precisions(scores, labels)(weights)
    expected = [sk.average_precision_score(labels[:, k], scores[:, k], sample_weight=weights) for k in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(statistics.average_precisions(scores, labels * 0)(weights)).all()


def test_calibration_counts_every_decision_once():
    probabilities = np.array([0.0, 1 / 15, 0.5, 0.99, 1.0])
    bins = statistics.calibration(probabilities, np.array([False, True, True, True, True]))
    assert [row.n for row in bins if row.n] == [2, 1, 2]
    assert statistics.calibration_error(bins) == pytest.approx((2 * abs(1 / 30 - 0.5) + 0.5 + 2 * 0.005) / 5)


def test_mistakes_of_many_labels_are_what_the_thresholds_decide():
    probabilities = np.array([[0.9, 0.45], [0.2, 0.35], [0.9, 0.1]])
    labels = np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    found = statistics.multi_label_mistakes(probabilities, labels, np.array([0.5, 0.3]), 12)
    assert found == [statistics.Mistake(0, (0,)), statistics.Mistake(1, (1,))]


def test_errors_of_targets_are_compared_by_their_deviations():
    labels = np.array([[0.0, 0.0], [1000.0, 1.0], [2000.0, 2.0]])
    values = labels + np.array([[100.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert statistics.regression_mistakes(values, labels, 2) == [
        statistics.Mistake(2, (1, 0)),
        statistics.Mistake(0, (0, 1)),
    ]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.812, 0.815), (-3.2, 17), (1e-6, 2e-6), (0, 2.5e6)])
def test_the_marks_of_an_axis_are_few_round_and_inside(low, high):
    marks = figures._marks(low, high)
    assert 2 <= len(marks) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in marks)
    assert len({text for _, text in marks}) == len(marks)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (wording.percent(0.8954), "89.5%"),
        (wording.percent(0.99996), "over 99.9%"),
        (wording.percent(1.0), "100.0%"),
        (wording.percent(0.0001), "under 0.1%"),
        (wording.number(-0.17), "−0.170"),
        (wording.number(12345.6), "12,346"),
        (wording.number(float("nan")), "not a number"),
        (wording.duration(59.7), "1 min 0 s"),
        (wording.duration(3780), "1 h 3 min"),
        (wording.count(1, "class", "classes"), "1 class"),
    ],
)
def test_numbers_are_said_as_a_reader_expects(said, text):
    assert said.replace("\N{NO-BREAK SPACE}", " ") == text
