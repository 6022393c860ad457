"""Two models on the same images: differences by class, flips, and the rule of the gate."""

import json

import numpy as np
import pytest
from two_models import compared, single

from kerasft.evaluation import gate
from kerasft.evaluation.gate import Both, Side
from kerasft.report.baseline_section import describe_reason


def test_a_class_is_worse_beyond_one_standard_error_of_its_paired_difference():
    # Two of twelve lost: the difference is 0.167, its standard error 0.112.
    lost = [True] * 24, [False] * 2 + [True] * 22, [0] * 12 + [1] * 12
    found = compared(single(*lost))
    row = found["classes"]["a"]
    assert (row["n"], row["before"], row["after"]) == (12, 1.0, pytest.approx(10 / 12))
    gaps = np.array([-1.0] * 2 + [0.0] * 10)
    assert row["standard_error"] == pytest.approx(gaps.std(ddof=1) / np.sqrt(12))
    assert row["worse"] and not found["classes"]["b"]["worse"]
    assert not found["gate"]["passed"]
    assert "accuracy of class 'a'" in [row["what"] for row in found["gate"]["reasons"]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("n", [10, 11, 36, 49, 97])
def test_one_image_lost_is_exactly_one_standard_error_and_passes(n):
    found = compared(single([True] * n, [False] + [True] * (n - 1), [0] * n))
    assert found["gate"]["passed"], found["gate"]["reasons"]


def test_a_class_of_few_images_is_not_judged():
    found = compared(single([True] * 69, [False] * 9 + [True] * 60, [0] * 9 + [1] * 60))
    assert not found["classes"]["a"]["worse"]
    assert [row["what"] for row in found["gate"]["reasons"]] == ["accuracy", "loss"]


def test_a_class_lost_whole_is_worse_though_its_difference_does_not_vary():
    found = compared(single([True] * 20, [False] * 20, [0] * 20))
    assert found["classes"]["a"]["standard_error"] == 0
    assert not found["gate"]["passed"]
    assert "standard errors" not in describe_reason(found["gate"]["reasons"][0])


def test_a_better_model_passes_and_its_flips_are_named():
    found = compared(single([False, True, True, False], [True, True, False, True], [0, 1, 0, 1]))
    assert (found["lost"], found["gained"]) == (1, 2)
    assert (found["lost_images"], found["gained_images"]) == (["2.jpg"], ["0.jpg", "3.jpg"])


def test_equal_answers_are_the_same():
    found = compared(single([True, False] * 10, [True, False] * 10, [0, 1] * 10))
    assert found["same"] and found["gate"]["passed"] and found["difference"] == [0.0, 0.0, 0.0]


def test_a_model_that_differs_by_rounding_is_never_refused():
    rng = np.random.default_rng(0)
    labels = rng.normal(5, 1, (200, 2)).astype(np.float32)
    answers = labels + rng.normal(size=labels.shape)
    sides = [Side(answers * part, np.square(answers * part - labels).mean(-1)) for part in (1, 1 + 1e-7)]
    sides = sorted(sides, key=lambda side: side.losses.mean())
    found = compared(Both(np.arange(200).astype(str), labels, *sides), "regression")
    assert found["same"] and found["gate"]["passed"] and not any(row["worse"] for row in found["classes"].values())


def test_images_of_one_group_are_one_draw_for_the_gate():
    both = single([True] * 60, [False] * 20 + [True] * 40, [0] * 60)
    assert not compared(both)["gate"]["passed"]
    together = compared(both._replace(groups=np.repeat([0, 1, 2], 20)))
    assert together["classes"]["a"]["standard_error"] == pytest.approx(1 / 3)
    assert "accuracy of class 'a'" not in [row["what"] for row in together["gate"]["reasons"]]


def test_the_gate_does_not_pass_a_loss_because_all_images_are_of_one_group():
    both = single([True] * 60, [False] * 20 + [True] * 40, [0] * 60)
    assert not compared(both._replace(groups=np.zeros(60)))["gate"]["passed"]


def test_the_same_probabilities_with_other_thresholds_are_not_the_same():
    labels = (np.arange(40)[:, None] % 2 == [0, 1]).astype(np.float32)
    answers, decided = np.where(labels > 0, 0.8, 0.2), [labels > 0, np.zeros(labels.shape, bool)]
    both = Both(np.arange(40).astype(str), labels, *(Side(answers, np.ones(40), one) for one in decided))
    assert compared(both, "multi_label")["same"] and not compared(both, "multi_label")["gate"]["passed"]


def test_a_quantile_is_judged_by_its_own_loss():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 1, (300, 1)).astype(np.float32)
    gaps = [labels[:, 0] - answer for answer in (0.0, 1.2816)]
    losses = [np.maximum(0.9 * gap, -0.1 * gap) for gap in gaps]
    sides = [Side(np.full((300, 1), answer), loss) for answer, loss in zip((0.0, 1.2816), losses)]
    both = Both(np.arange(300).astype(str), labels, *sides)
    found = gate.compare("regression", ("x",), both, lambda answers: 0.0, None, quantile=0.9)
    assert found["gate"]["passed"] and found["classes"]["x"]["after"] == pytest.approx(losses[1].mean())
    assert found["before"].keys() == {"pinball", "loss"} and found["difference"][2] < 0
    reasons = gate.compare("regression", ("x",), both, lambda answers: 0.0, None)["gate"]["reasons"]
    assert [row["what"] for row in reasons] == ["absolute error of 'x'"]


def test_multi_label_judges_decisions_and_counts_whole_images_as_flips():
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 2)) < 0.5).astype(np.float32)
    right, wrong = labels > 0, labels > 0
    wrong = wrong.copy()
    wrong[:8, 1] ^= True
    sides = [Side(np.where(p, 0.8, 0.2), np.full(40, loss), p) for p, loss in ((right, 0.2), (wrong, 0.3))]
    both = Both(np.arange(40).astype(str), labels, *sides)
    found = compared(both, "multi_label")
    assert (found["lost"], found["gained"]) == (8, 0)
    assert found["classes"]["b"]["worse"] and not found["classes"]["a"]["worse"]
    assert found["classes"]["b"]["after"] == pytest.approx(32 / 40)


def test_regression_judges_the_error_of_each_target():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, 5, (30, 2)).astype(np.float32)
    sides = []
    for error in ([0.1, 0.5], [0.1, 0.8]):
        gaps = np.abs(rng.normal(1, 0.05, (30, 2))) * error
        sides.append(Side(labels + gaps, np.square(gaps).mean(-1)))
    found = compared(Both(np.arange(30).astype(str), labels, *sides), "regression")
    assert found["classes"]["b"]["worse"] and found["classes"]["b"]["after"] > found["classes"]["b"]["before"]
    assert [row["what"] for row in found["gate"]["reasons"]] == ["loss", "absolute error of 'b'"] + [
        f"absolute error of '{name}'" for name in "a" if found["classes"]["a"]["worse"]
    ]
    assert found["lost"] == found["gained"] == 0


@pytest.mark.parametrize("n", [2, 9])
def test_all_images_together_are_judged_however_few(n):
    found = compared(single([True] * n, [False] * n, [0] * n))
    assert [row["what"] for row in found["gate"]["reasons"]] == ["accuracy", "loss"]
