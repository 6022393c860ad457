"""What is a difference, and what is not."""

import numpy as np
import pytest

from kerasft.export.proof import TOLERANCE, ParityError, compare

TRUTH = np.array([[0.7, 0.3], [0.5 + TOLERANCE / 4, 0.5 - TOLERANCE / 4]])


def test_equal_answers_are_equal():
    assert compare("x", "single_label", TRUTH, TRUTH) == {"max_abs_diff": 0.0, "top1_agreement": 1.0, "n": 2}


def test_labels_of_nearly_equal_scores_may_change_places():
    found = compare("x", "single_label", np.array([TRUTH[0], TRUTH[1, ::-1]]), TRUTH)
    assert found["top1_agreement"] == 0.5
    assert found["max_abs_diff"] == pytest.approx(TOLERANCE / 2)


def test_several_labels_agree_where_all_are_on_the_same_side_of_their_thresholds():
    given = TRUTH + np.array([[0, 0], [TOLERANCE / 2, 0]])
    found = compare("x", "multi_label", given, TRUTH, thresholds=np.array([0.5 + TOLERANCE / 2, 0.2]))
    assert (found["label_agreement"], found["top1_agreement"]) == (0.5, 1)
    assert "label_agreement" not in compare("x", "single_label", TRUTH, TRUTH)


@pytest.mark.parametrize("gap", [2 * TOLERANCE, np.nan, np.inf])
@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_a_difference_is_refused_and_named(gap, task):
    given = TRUTH.copy()
    given[0, 1] += gap
    with pytest.raises(ParityError, match=r"export: the thing differs .* on 2 test images; nothing was exported"):
        compare("thing", task, given, TRUTH, np.ones(2) if task == "regression" else None)


def test_values_differ_in_deviations_of_their_target():
    values = np.array([[1000.0, 0.1]])
    assert compare("x", "regression", values + np.array([0.05, 0]), values, np.array([1000.0, 1])) == {
        "max_abs_diff": pytest.approx(0.05),
        "n": 1,
    }
    with pytest.raises(ParityError):
        compare("x", "regression", values + np.array([0, 0.05]), values, np.array([1000.0, 1]))
