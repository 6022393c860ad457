"""Probes of several depths, stacked: against what each depth tells by itself."""

import numpy as np
import pytest

from kerasft.evaluation.scoring import Scorer
from kerasft.probes import linear_probe, stacked_probe

LABELS = {
    "single_label": lambda early, late: (2 * (early[:, 0] > 0) + (late[:, 0] > 0)).astype(np.int32),
    "multi_label": lambda early, late: np.stack([early[:, 0] > 0, late[:, 0] > 0], 1).astype(np.float32),
    "regression": lambda early, late: np.stack([early[:, 0] + late[:, 0]], 1).astype(np.float32),
}
OUTPUTS = {"single_label": 4, "multi_label": 2, "regression": 1}


def _data(task, count=300, seed=0):
    """Half of what decides the label is seen early, the other half late."""
    rng = np.random.default_rng(seed)
    early, late = (rng.normal(size=(count, width)).astype(np.float32) for width in (6, 4))
    return np.concatenate([early, late], 1), LABELS[task](early, late)


@pytest.mark.parametrize("task", LABELS)
def test_several_depths_are_seen_where_they_tell_more(task):
    features, labels = _data(task)
    stacked = stacked_probe.solve(features, [6, 4], labels, OUTPUTS[task], task, 0)
    assert stacked.depths == 2
    assert stacked.solution.kernel.shape == (10, OUTPUTS[task])
    assert [row.depths for row in stacked.rows] == [1, 2]
    assert stacked.loss < 0.6 * stacked.rows[0].loss
    assert sum(row.share for row in stacked.rows) == pytest.approx(1)
    others, expected = _data(task, seed=1)
    if task == "single_label":
        logits = others @ stacked.solution.kernel + stacked.solution.bias
        assert (logits.argmax(1) == expected).mean() > 0.9


@pytest.mark.parametrize("task", LABELS)
def test_folds_are_drawn_once_for_all_depths(task, monkeypatch):
    features, labels = _data(task, 60)
    given = (labels, OUTPUTS[task], task, 0, None, None, np.arange(60) // 2)
    drawn, posed, pose = [], [], linear_probe.pose

    def noted(*arguments):
        posed.append((pose(*arguments), pose(*arguments[:-1])))
        return posed[-1][0]

    with monkeypatch.context() as context:
        context.setattr(stacked_probe.linear_probe, "pose", noted)
        whole = stacked_probe.solve(features, [6, 4], *given)
    for kept, anew in posed:
        for one, other in zip(kept.folds, anew.folds, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    for name in ("stratified", "plain", "multi_label"):
        draw = getattr(linear_probe.folds, name)
        monkeypatch.setattr(linear_probe.folds, name, lambda *a, draw=draw: drawn.append(1) or draw(*a))
    again = stacked_probe.solve(features, [6, 4], *given)
    assert (len(posed), len(drawn)) == (2, 1)
    np.testing.assert_array_equal(again.losses, whole.losses)


def test_the_last_depth_stays_alone_where_others_tell_nothing():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 10)).astype(np.float32)
    labels = (features[:, 6:].sum(1) > 0).astype(np.int32)
    stacked = stacked_probe.solve(features, [3, 3, 4], labels, 2, "single_label", 0)
    alone = linear_probe.solve(features[:, 6:], labels, 2, "single_label", 0)
    assert stacked.depths == 1
    np.testing.assert_allclose(stacked.solution.kernel, alone.kernel, atol=1e-5)


def test_all_depths_are_seen_where_they_are_asked_for():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 10)).astype(np.float32)
    labels = (features[:, 6:].sum(1) > 0).astype(np.int32)
    stacked = stacked_probe.solve(features, [3, 3, 4], labels, 2, "single_label", 0, forced=True)
    assert stacked.depths == 3
    assert stacked.solution.kernel.shape == (10, 2)


def test_the_stack_is_at_least_as_good_as_each_probe_on_what_was_held_out():
    features, labels = _data("single_label", 160)
    stacked = stacked_probe.solve(features, [2, 2, 2, 4], labels, 4, "single_label", 0)
    assert stacked.loss <= min(row.loss for row in stacked.rows) + 1e-6


def test_one_image_of_each_class_leaves_the_last_depth():
    features, _ = _data("single_label", 4)
    stacked = stacked_probe.solve(features, [6, 4], np.arange(4), 4, "single_label", 0)
    assert stacked.depths == 1
    assert np.isnan(stacked.rows[0].loss)


def test_examples_of_no_weight_do_not_count():
    features, labels = _data("single_label", 400)
    weights = np.ones(400)
    weights[::2] = 0
    spoiled = np.where(weights == 0, (labels + 1) % 4, labels)
    stacked = stacked_probe.solve(features, [6, 4], spoiled, 4, "single_label", 0, weights)
    logits = features[1::2] @ stacked.solution.kernel + stacked.solution.bias
    assert (logits.argmax(1) == labels[1::2]).mean() > 0.9
    assert Scorer("single_label", labels[1::2]).loss(logits) < 0.4


def test_numbers_of_depths_double():
    assert [stacked_probe.counts(depths) for depths in (1, 2, 5, 27)] == [
        [1],
        [1, 2],
        [1, 2, 4, 5],
        [1, 2, 4, 8, 16, 27],
    ]


def test_a_stack_is_kept_as_arrays():
    features, labels = _data("single_label", 100)
    stacked = stacked_probe.solve(features, [6, 4], labels, 4, "single_label", 0)
    again = stacked_probe.from_arrays(stacked.to_arrays())
    assert again.rows == stacked.rows
    assert again.depths == stacked.depths
    assert again.accuracy == stacked.accuracy > 0.5
    np.testing.assert_array_equal(again.losses, stacked.losses)
    assert stacked.loss == stacked.losses.mean()
    np.testing.assert_array_equal(again.solution.kernel, stacked.solution.kernel)
