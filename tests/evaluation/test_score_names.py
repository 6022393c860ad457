"""The names of scores: one for each task, and one more each for several targets and for a quantile."""

import pytest

from kerasft.evaluation.score_names import ERRORS, SCORES, TITLES, recorded_score, score_key, score_name


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


@pytest.mark.parametrize("targets", [1, 2])
def test_a_quantile_has_a_score_of_its_own(targets):
    assert score_name("regression", 0.9) == score_key("regression", targets, 0.9) == "pinball"


@pytest.mark.parametrize("score", TITLES)
def test_a_row_tells_its_score(score):
    assert recorded_score({"loss": 1.0, score: 2.0, "n": 3}) == score
