"""The pinball loss, which the quantile of a target makes lowest."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def pinball(residuals: np.ndarray, quantile: float) -> np.ndarray:
    """The pinball loss of residuals, true values less answers, in their units (Koenker and Bassett 1978)."""
    return np.maximum(quantile * residuals, (quantile - 1) * residuals)


def asked_quantile(test: Mapping[str, Any]) -> float | None:
    """The quantile that a run predicts, by its test metrics; None for the mean and the median, which absolute errors judge."""
    quantile = test.get("quantile")
    return None if quantile == 0.5 else quantile


def judged_errors(residuals: np.ndarray, quantile: float | None) -> np.ndarray:
    """The errors whose mean is the score of values, in the units of the residuals.

    Args:
        residuals: true values less answers.
        quantile: of `asked_quantile`, judged by its pinball loss; None for absolute errors.
    """
    return np.abs(residuals) if quantile is None else pinball(residuals, quantile)
