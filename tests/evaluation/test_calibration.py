"""The temperature and the calibration error, against numbers worked out by hand."""

import numpy as np
import pytest

from kerasft.evaluation import calibration


def test_calibration_error_by_hand():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55, 1.0])
    right = np.array([True, True, True, False, True, False, True])
    expected = (abs(5 * 0.95 + 0.05 - 4) + abs(2 * 0.55 - 1)) / 7  # 0.95 and 1.0 share the last bin
    assert calibration.calibration_error(confidence, right) == pytest.approx(expected)


@pytest.mark.parametrize(("best", "expected"), [(3.0, 3.0), (0.6, 0.6), (20.0, 8.0), (0.1, 0.5)])
def test_the_temperature_is_that_of_the_lowest_loss_within_its_range(best, expected):
    def loss(temperature, smoothing):
        assert smoothing in (1 / 102, 3 / 100)
        return float(np.log(temperature / best) ** 2)

    assert calibration.fit_temperature(loss, 100) == pytest.approx(expected, rel=1e-3)


def test_a_temperature_below_one_needs_the_stronger_smoothing_to_agree():
    """It makes a network more certain: where the stronger smoothing asks for more than 1, it is 1."""
    assert calibration.fit_temperature(lambda t, smoothing: (t - (0.6 if smoothing < 0.02 else 1.5)) ** 2, 100) == 1
