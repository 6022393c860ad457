"""Reliability diagrams and the calibration error."""

import numpy as np
import pytest

from kerasft.evaluation.calibration import calibration_error
from kerasft.evidence.calibration import calibration, reliability
from kerasft.evidence.predictions import Predictions


def test_calibration_counts_every_decision_once():
    probabilities = np.array([0.0, 1 / 15, 0.5, 0.99, 1.0])
    correct = np.array([False, True, True, True, True])
    bins = reliability(probabilities, correct)
    assert [row.n for row in bins if row.n] == [2, 1, 2]
    gaps = [row.n * abs(row.predicted - row.observed) for row in bins if row.n]
    assert sum(gaps) / 5 == pytest.approx((2 * abs(1 / 30 - 0.5) + 0.5 + 2 * 0.005) / 5)
    assert sum(gaps) / 5 == pytest.approx(calibration_error(probabilities, correct))


def _said(task: str, labels: np.ndarray, outputs: np.ndarray, thresholds: np.ndarray | None = None) -> str:
    """The sentence of the report."""
    ids = np.arange(len(labels)).astype(str)
    return calibration(Predictions(task, ("a", "b"), ids, labels, outputs, thresholds, None)).context["fairness"]


def _bins(*rows: tuple[float, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, float [M], and outcomes, bool [M], of bins: the probability, the share that is right, and how many."""
    outcomes = [np.arange(n) < round(share * n) for _, share, n in rows]
    return np.repeat([row[0] for row in rows], [row[2] for row in rows]), np.concatenate(outcomes)


def _two_classes(*rows: tuple[float, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, int [N], and probabilities, float [N, 2], of a network that always answers the first class."""
    probabilities, right = _bins(*rows)
    return (~right).astype(np.int32), np.stack([probabilities, 1 - probabilities], axis=1)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([(0.6, 0.6, 500), (0.9, 0.9, 500)], "it is well calibrated"),
        ([(0.6, 0.5, 500), (0.9, 0.8, 500)], "it is overconfident"),
        ([(0.6, 0.7, 500), (0.9, 0.95, 500)], "it is underconfident"),
        (
            [(0.6, 0.7, 500), (0.9, 0.8, 500)],
            "neither too sure nor too unsure on average, but its bins are off by 10.0%",
        ),
    ],
)
def test_errors_that_cancel_are_not_well_calibrated(rows, verdict):
    assert verdict in _said("single_label", *_two_classes(*rows))


def test_what_chance_does_to_a_few_images_is_well_calibrated():
    """Bins of 25 images are off by 8 points and more however good the probabilities are."""
    rows = [(0.55, 0.6, 25), (0.65, 0.6, 25), (0.75, 0.8, 25), (0.85, 0.8, 25)]
    assert "it is well calibrated" in _said("single_label", *_two_classes(*rows))


@pytest.mark.parametrize("n", [12, 100, 500])
def test_a_calibrated_model_is_seldom_called_over_or_underconfident(n):
    rng, called = np.random.default_rng(n), 0
    for _ in range(200):
        probability = rng.uniform(0.5, 1, n)
        labels = (rng.random(n) > probability).astype(np.int32)
        called += "confident" in _said("single_label", labels, np.stack([probability, 1 - probability], axis=1))
    assert called <= 20


def test_few_images_tell_no_gap_and_many_do():
    def said(n: int) -> str:
        return _said("single_label", *_two_classes((0.85, 0.8, n)))

    assert "it is as well calibrated as so few decisions can tell" in said(100)
    assert "it is overconfident" in said(1000)


def test_many_labels_that_are_not_given_hide_nothing():
    """1,000 images of 20 labels: 19,000 decisions are easy, and those that are given are right in 60 % of the cases."""
    probabilities, right = _bins((0.002, 0.021, 19_000), (0.99, 0.601, 1_000))
    outputs, labels = (part.reshape(1000, 20).astype(np.float32) for part in (probabilities, right))
    assert abs(probabilities.mean() - right.mean()) < 0.01
    said = _said("multi_label", labels, outputs, np.full(20, 0.5))
    assert said == "The labels that the model gives have 99.0% on average, and 60.1% of them apply: it is overconfident"
    # Where none is given, all decisions count.
    said = _said("multi_label", labels, outputs, np.ones(20))
    assert said.endswith("neither too sure nor too unsure on average, but its bins are off by 3.8% on average")
