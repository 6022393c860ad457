"""Calibration: the temperature of logits, and the error of the probabilities that a network promises."""

from collections.abc import Callable

import numpy as np

# The temperature is searched in this range.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 8.0
# The calibration error uses so many bins of equal width.
CALIBRATION_BINS = 15


def fit_temperature(loss: Callable[[float, float], float], count: int) -> float:
    """Finds the temperature by which logits are divided for the lowest loss (Guo et al. 2017).

    Labels are smoothed by 1 / (N + 2), after Platt (1999): otherwise a few images, all of them right, would ask for
    certainty. A temperature below 1 makes the network more certain. For it, labels are smoothed by 3 / N: that share of
    mistakes is still likely where N images showed none (Hanley and Lippman-Hand 1983).

    Args:
        loss: temperature and label smoothing to the mean loss.
        count: of the examples, N.

    Returns:
        A number in [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`].
    """
    from scipy.optimize import minimize_scalar

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))

    def minimise(smoothing: float) -> float:
        found = minimize_scalar(lambda log: loss(np.exp(log), smoothing), bounds=bounds, method="bounded")
        return float(np.exp(found.x))

    temperature = minimise(1 / (count + 2))
    return temperature if temperature >= 1 else min(1.0, minimise(min(1.0, 3 / count)))


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Returns the expected calibration error (Naeini et al. 2015): the mean gap of confidence and frequency over the bins.

    Args:
        confidence: float [N] in [0, 1].
        correct: bool [N].
    """
    confidence = confidence.astype(np.float64)
    # Each bin holds its upper end, not its lower one.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
