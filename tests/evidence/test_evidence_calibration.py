"""Reliability diagrams and the calibration error."""

import numpy as np
import pytest

from kerasft.evaluation.calibration import calibration_error
from kerasft.evidence.calibration import reliability


def test_calibration_counts_every_decision_once():
    probabilities = np.array([0.0, 1 / 15, 0.5, 0.99, 1.0])
    correct = np.array([False, True, True, True, True])
    bins = reliability(probabilities, correct)
    assert [row.n for row in bins if row.n] == [2, 1, 2]
    gaps = [row.n * abs(row.predicted - row.observed) for row in bins if row.n]
    assert sum(gaps) / 5 == pytest.approx((2 * abs(1 / 30 - 0.5) + 0.5 + 2 * 0.005) / 5)
    assert sum(gaps) / 5 == pytest.approx(calibration_error(probabilities, correct))
