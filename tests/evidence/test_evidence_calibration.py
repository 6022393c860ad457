"""Reliability diagrams and the calibration error."""

import numpy as np
import pytest

from kerasft.evidence.calibration import calibration_error, reliability


def test_calibration_counts_every_decision_once():
    probabilities = np.array([0.0, 1 / 15, 0.5, 0.99, 1.0])
    bins = reliability(probabilities, np.array([False, True, True, True, True]))
    assert [row.n for row in bins if row.n] == [2, 1, 2]
    assert calibration_error(bins) == pytest.approx((2 * abs(1 / 30 - 0.5) + 0.5 + 2 * 0.005) / 5)
