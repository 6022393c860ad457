"""The paired comparison: its formulas by hand, and what it does with images that only one run has scored."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from kerasft.evaluation import intervals, paired


def classified(right: np.ndarray, losses: np.ndarray, ids: np.ndarray | None = None) -> dict[str, np.ndarray]:
    labels = np.zeros(len(right), np.int32)
    return {
        "ids": np.arange(len(right)).astype(str) if ids is None else ids,
        "labels": labels,
        "probabilities": np.where(right[:, None], [0.9, 0.1], [0.2, 0.8]) + 1e-3 * losses[:, None],
        "losses": losses,
    }


def test_the_interval_of_paired_proportions_is_that_of_bonett_and_price():
    """Their formula, spelt out: 20 examples, 3 of which only the first has right, and 8 only the second."""
    first = np.array([True] * 3 + [False] * 8 + [True] * 9)
    second = np.array([False] * 3 + [True] * 8 + [True] * 9)
    p, q = 4 / 22, 9 / 22
    half = 1.959964 * np.sqrt((p + q - (q - p) ** 2) / 22)
    np.testing.assert_allclose(intervals.paired_difference(first, second), (q - p - half, q - p + half), rtol=1e-6)


def test_two_that_never_disagree_may_still_differ():
    same = np.ones(40, bool)
    low, high = intervals.paired_difference(same, same)
    assert -0.1 < low < 0 < high < 0.1


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        draw = rng.random(60)
        first, second = (draw < 0.7) | (draw > 0.95), draw < 0.85
        low, high = intervals.paired_difference(first, second)
        hits += low <= 0.1 <= high
    assert 0.93 < hits / 1000 < 0.98


def test_pairing_sees_a_small_gain_that_separate_intervals_do_not():
    rng = np.random.default_rng(1)
    losses = rng.exponential(1.0, 150)
    right = rng.random(150) < 0.8
    found = paired.compare("single_label", classified(right, losses), classified(right, losses - 0.02))
    assert found.n == 150
    assert found.loss.value == pytest.approx(-0.02)
    assert found.loss.low < found.loss.value < found.loss.high < 0 or found.loss.high == pytest.approx(-0.02)
    ends = paired.loss_interval(classified(right, losses))
    assert ends[1] - ends[0] > 0.1
    assert found.score.value == 0


def test_the_same_network_is_no_estimate():
    right, losses = np.array([True, False, True]), np.array([1.0, 2.0, 3.0])
    found = paired.compare("single_label", classified(right, losses), classified(right, losses))
    assert found.same
    assert (found.score, found.loss) == (paired.Difference(0, 0, 0), paired.Difference(0, 0, 0))


@pytest.mark.parametrize(("gap", "same"), [([0, 1e-3], True), ([1e-3, 0], False), ([0, 1.0], False)])
def test_rounding_is_no_difference_in_the_units_of_each_target(gap, same):
    values = np.column_stack([np.linspace(0.5, 1, 40), np.linspace(4000, 6000, 40)])
    run = {"ids": np.arange(40).astype(str), "labels": values + 0.1, "losses": np.ones(40)}
    found = paired.compare("regression", run | {"values": values}, run | {"values": values + gap}, np.array([0.2, 900]))
    assert found.same == same
    assert (found.score.value == 0) == same


def test_one_image_has_a_difference_and_no_interval():
    first, second = (classified(np.array([True]), np.array([loss])) for loss in (1.0, 0.5))
    found = paired.compare("single_label", first, second)
    assert found.loss.value == -0.5 and np.isnan(found.loss[1:]).all()
    assert np.isnan(paired.loss_interval(first)).all()


def test_images_of_a_group_are_one_draw():
    rng = np.random.default_rng(0)
    losses, gaps = rng.exponential(1.0, 200), np.repeat(rng.normal(-0.1, 0.3, 4), 50)
    right = rng.random(200) < 0.8
    runs = classified(right, losses), classified(right, losses + gaps)
    groups = {"groups": np.repeat(np.arange(4), 50)}
    alone, together = (paired.compare("single_label", *(run | more for run in runs)).loss for more in ({}, groups))
    assert together.high - together.low > 5 * (alone.high - alone.low)
    assert together.value == alone.value


def test_without_an_image_of_both_nothing_is_known():
    right, losses = np.array([True, False]), np.array([1.0, 2.0])
    first, second = (classified(right, losses, np.array(ids)) for ids in (["a", "b"], ["c", "d"]))
    found = paired.compare("single_label", first, second)
    assert (found.n, found.same) == (0, False)
    assert np.isnan([*found.score, *found.loss]).all()


def test_only_images_of_both_count_whatever_their_order():
    right, losses = np.array([True, False, True, True]), np.array([1.0, 2.0, 3.0, 4.0])
    first = classified(right, losses, np.array(["a", "b", "c", "d"]))
    second = classified(right[::-1], losses[::-1] + 1, np.array(["x", "c", "b", "a"]))
    found = paired.compare("single_label", first, second)
    assert found.n == 3
    # Of b, c and a: 3, 4 and 2 in the second; 2, 3 and 1 in the first.
    assert found.loss.value == pytest.approx(np.mean([3 - 2, 4 - 3, 2 - 1]))


def test_average_precision_and_errors_of_several_targets():
    rng = np.random.default_rng(2)
    labels = (rng.random((80, 3)) < 0.4).astype(np.float32)
    runs = []
    for noise in (1.0, 0.3):
        scores = labels + noise * rng.normal(size=labels.shape)
        runs.append({"ids": np.arange(80), "labels": labels, "probabilities": scores, "losses": np.abs(scores).mean(1)})
    found = paired.compare("multi_label", *runs)
    expected = [
        np.mean([average_precision_score(labels[:, k], run["probabilities"][:, k]) for k in range(3)]) for run in runs
    ]
    assert found.score.value == pytest.approx(expected[1] - expected[0])
    assert 0 < found.score.low < found.score.value < found.score.high

    truth = rng.normal(size=(50, 2)).astype(np.float32) * [1, 1000]
    runs = [
        {"ids": np.arange(50), "labels": truth, "values": truth + gap * np.array([1, 1000]), "losses": np.full(50, gap)}
        for gap in (0.5, 0.2)
    ]
    found = paired.compare("regression", *runs, units=np.array([1.0, 1000.0]))
    assert found.score.value == pytest.approx(-0.3, abs=1e-4)


def test_a_quantile_is_compared_by_its_pinball_loss():
    """The second run answers with the median, whose absolute error is lower."""
    truth = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    answers = [np.full((300, 1), 1.2816, np.float32), np.zeros((300, 1), np.float32)]
    runs = [{"ids": np.arange(300), "labels": truth, "values": one, "losses": np.ones(300)} for one in answers]
    assert paired.compare("regression", *runs, quantile=0.9).score.low > 0
    assert paired.compare("regression", *runs).score.high < 0
