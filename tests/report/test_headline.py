"""The headline: what the audit knows that a test figure must not hide."""

import numpy as np
import pytest

from kerasft.evaluation.scoring import mean_average_precision
from kerasft.report import headline

NONE = headline.Caveats()


@pytest.mark.parametrize("ending", ["", ", under another label"])
def test_an_image_in_two_splits_is_counted_whatever_its_label(ending):
    finding = {
        "path": "train/a/1.png",
        "kind": "duplicate_across_splits",
        "detail": f"same bytes as test/b/1.png{ending}",
    }
    audit = {"findings": [finding], "counts": {"test": {"a": 3, "b": 0}}}
    found = headline.find_caveats({"test": {"excluded_copies": 2}}, audit, np.array(["test/b/1.png", "test/a/2.png"]))
    assert found == headline.Caveats(shared=1, left_out=2, missing=("b",))


def test_near_copies_and_groups_are_not_said_to_be_seen():
    found = headline.single_label(*classified(20), headline.Caveats(shared=3))
    text = " ".join(found["sentences"])
    assert "for 3 of which an image of the same group, or nearly the same image, is in another split" in text
    assert "may be too optimistic" in text and "seen" not in text


def test_a_teacher_that_has_learned_test_images_limits_the_score():
    members = [{"path": "runs/large", "learned_test_images": 12}, {"path": "runs/other"}]
    metrics = {"test": {}, "settled": {"teacher": {"members": members}}}
    found = headline.find_caveats(metrics, {"findings": [], "counts": {}}, np.array([]))
    assert found == headline.Caveats(learned=(("runs/large", 12),))
    text = " ".join(headline.single_label(*classified(20), found)["sentences"])
    assert "The teacher runs/large has learned 12 test images, so the score may be too optimistic." in text
    assert "none of which the model itself had seen" in text and "runs/other" not in text
    assert (
        headline.find_caveats({"test": {}, "settled": {"teacher": None}}, {"findings": [], "counts": {}}, np.array([]))
        == NONE
    )


def classified(n: int) -> tuple[dict, dict, list[str]]:
    labels = np.arange(n) % 2
    probabilities = np.where(np.arange(2) == labels[:, None], 0.9, 0.1)
    return {"n": n, "accuracy": 1.0}, {"labels": labels, "probabilities": probabilities}, ["a", "b"]


def ranked(scores: np.ndarray, labels: np.ndarray) -> dict:
    test = {"n": len(labels), "map": mean_average_precision(scores, labels), "exact_match": 0.5}
    return headline.multi_label(test, {"labels": labels, "probabilities": scores}, list("abc"), NONE)


def valued(values: np.ndarray, labels: np.ndarray, **more: float) -> dict:
    targets = {"x": {"mae": float(np.abs(values - labels).mean()), "r2": 0.5}}
    test = {"n": len(labels), "r2": 0.5, "per_target": targets, **more}
    return headline.regression(test, {"labels": labels, "values": values}, ["x"], NONE)


def test_a_random_ranking_is_not_clearly_better_than_one():
    """Rare labels: the expected average precision is far above their share, and a bootstrap draws positives twice."""
    rng = np.random.default_rng(0)
    said = []
    for _ in range(20):
        labels = (rng.random((60, 3)) < 0.1).astype(np.float32)
        said += ranked(rng.random((60, 3)), labels)["sentences"]
    assert not any("clearly better" in sentence for sentence in said)


def test_what_a_random_ranking_reaches_is_the_mean_over_rankings():
    rng = np.random.default_rng(0)
    labels = np.zeros((12, 2))
    labels[:2, 0], labels[:5, 1] = 1, 1
    drawn = np.mean([mean_average_precision(rng.random((12, 2)), labels) for _ in range(2000)])
    assert headline._random_ranking(labels) == pytest.approx(drawn, abs=0.01)


def test_a_perfect_ranking_has_no_interval():
    labels = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    found = ranked(labels, labels)
    assert (found["value"], found["low"], found["svg"]) == (1.0, None, "")
    assert not any("between" in sentence or "better" in sentence for sentence in found["sentences"])


@pytest.mark.parametrize("n", [1, 2])
def test_one_image_has_no_interval_and_no_verdict(n):
    labels = np.arange(1.0, n + 1)[:, None]
    found = valued(labels + 0.1 * labels, labels)
    assert (found["low"] is None) == (n < 2)
    assert any("Always answering" in sentence for sentence in found["sentences"]) == (n > 1)
    assert not any("Always" in sentence for sentence in headline.single_label(*classified(1), NONE)["sentences"])


def test_groups_widen_the_interval_and_are_named():
    test, arrays, classes = classified(100)
    alone = headline.single_label(test, arrays, classes, NONE)
    found = headline.single_label(test, arrays | {"groups": np.arange(100) // 25}, classes, NONE)
    assert found["low"] < alone["low"] - 0.3
    assert any(
        "images that belong together count as one, so 4 of 100 count" in sentence for sentence in found["sentences"]
    )


def test_a_good_quantile_is_better_than_a_constant_though_its_absolute_error_is_not():
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 1, (300, 1))
    labels = middle + rng.normal(0, 1, (300, 1))
    values = middle + 1.2816
    found = valued(values, labels, quantile=0.9, coverage=float((labels <= values).mean()))
    text = " ".join(found["sentences"])
    assert found["name"] == "mean pinball loss" and "clearly better" in text
    assert "at or above 90.0% of the true values" in text and "median" not in text and "R²" not in text
    assert "median" in " ".join(valued(middle, labels, quantile=0.5, coverage=0.5)["sentences"])
