"""Checks the arguments of operations, and scales random numbers to their ranges."""

import math
import sys
from typing import Any

import tensorflow as tf


def scale(u: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Scales numbers in [0, 1) to [low, high)."""
    return low + (high - low) * u


def check_number(name: str, value: Any, high: float, low: float = 0) -> float:
    """Returns the value as a float.

    Raises:
        ValueError: the value is no number in [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low}, {high}]")
    return float(value)


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Returns the value.

    Raises:
        ValueError: the value is no whole number in [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number in [{low}, {high}]")
    return value


def check_range(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Returns the value as two floats.

    Raises:
        ValueError: the value is no pair of rising, finite numbers in (low, high].
    """
    where = f"above {low}" if math.isinf(high) else f"in ({low}, {high}]"
    rule = f"{name} must be a pair of rising numbers {where}"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(rule)
    if any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in value):
        raise ValueError(rule)
    start, end = value
    if not low < start <= end <= high or end > sys.float_info.max:
        raise ValueError(rule)
    return float(start), float(end)
