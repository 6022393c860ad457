"""Intervals of shares, of means and of average precision."""

import numpy as np
import pytest
from sklearn import metrics as sk

from kerasft.evaluation import intervals


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    """Newcombe 1998, table I, method 3."""
    assert intervals.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = intervals.bootstrap(lambda weights: float(weights @ values) / 400, 400)
    assert (found.high - found.low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1, abs=0.1)
    assert found.mean == pytest.approx(values.mean(), abs=0.02)
    assert intervals.bootstrap(lambda weights: float(weights @ values) / 400, 400) == found


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_of_few_values_holds_the_mean_as_often_as_it_says(n):
    rng = np.random.default_rng(0)
    draws = [intervals.mean_interval(rng.normal(1, 1, n)) for _ in range(1000)]
    assert np.mean([low <= 1 <= high for low, high in draws]) == pytest.approx(0.95, abs=0.02)


def test_one_value_or_one_group_has_no_interval():
    right = np.array([True, False, True])
    found = [intervals.mean_interval(np.ones(1)), intervals.mean_interval(np.arange(3.0), np.zeros(3))]
    assert np.isnan([*found, intervals.share_interval(right, np.zeros(3))]).all()
    assert np.isnan(intervals.Bootstrap(1.0, 1.0, 1.0).centred(1.0, 0, 1)).all()


def test_a_single_group_has_no_paired_difference():
    right = np.array([True, False, True, True])
    assert np.isnan(intervals.paired_difference(right, ~right, np.zeros(4))).all()


def test_copies_in_a_group_tell_no_more_than_one_of_them():
    rng = np.random.default_rng(0)
    values, right = rng.normal(size=40), rng.random(40) < 0.7
    groups = np.repeat(np.arange(40), 5)
    whole = intervals.mean_interval(np.repeat(values, 5), groups)
    np.testing.assert_allclose(whole, intervals.mean_interval(values), rtol=1e-9)
    np.testing.assert_allclose(intervals.mean_interval(values, np.arange(40)), intervals.mean_interval(values))
    low, high = intervals.share_interval(np.repeat(right, 5), groups)
    single = intervals.wilson(int(right.sum()), 40)
    assert high - low == pytest.approx(single[1] - single[0], rel=0.1)
    drawn = intervals.bootstrap(
        lambda weights: float(weights @ np.repeat(values, 5)) / weights.sum(), 200, groups=groups
    )
    assert drawn.high - drawn.low == pytest.approx(whole[1] - whole[0], rel=0.2)
    low, high = intervals.paired_difference(np.repeat(right, 5), np.ones(200, bool), groups)
    alone = intervals.paired_difference(np.repeat(right, 5), np.ones(200, bool))
    assert high - low > 1.8 * (alone[1] - alone[0])


def test_groups_that_are_all_right_count_as_one_image_each():
    assert intervals.share_interval(np.ones(60, bool), np.repeat([0, 1, 2], 20)) == intervals.wilson(3, 3)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns_also_with_weights_and_ties(ties):
    rng = np.random.default_rng(5)
    scores, labels = rng.random((200, 4)), rng.random((200, 4)) < 0.3
    scores = scores.round(1) if ties else scores
    weights = rng.integers(0, 4, 200)
    found = intervals.average_precisions(scores, labels)(weights)
    expected = [sk.average_precision_score(labels[:, k], scores[:, k], sample_weight=weights) for k in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(intervals.average_precisions(scores, labels * 0)(weights)).all()
