"""The names of scores: one for each task, and one more each for several targets and for a quantile."""

import pytest

from kerasft.evaluation.score_names import ERRORS, SCORES, TITLES, score_key


@pytest.mark.parametrize(
    ("task", "targets", "key"),
    [
        ("regression", 2, "scaled_mae"),
        ("regression", 1, "mae"),
        ("multi_label", 5, "map"),
        ("single_label", 3, "accuracy"),
    ],
)
def test_several_targets_are_compared_in_deviations(task, targets, key):
    assert score_key(task, targets) == key
    assert (key in ERRORS) == (task == "regression") and ("in deviations" in TITLES[key]) == key.startswith("scaled")


def test_every_score_has_a_title():
    assert TITLES.keys() == {*SCORES.values(), "scaled_mae", "pinball"}
