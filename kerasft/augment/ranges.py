"""Checks of what an operation is given, and draws brought into its range."""

from typing import Any

import tensorflow as tf


def between(u: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Numbers in [0, 1) spread over [low, high)."""
    return low + (high - low) * u


def amount(name: str, value: Any, most: float, least: float = 0) -> float:
    """The value, if it is a number in [least, most].

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} must be a number in [{least}, {most}]")
    return float(value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """The value, if it is a whole number in [least, most].

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number in [{least}, {most}]")
    return value


def pair(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """The pair, if it is two rising numbers in (least, most].

    Raises:
        ValueError: it is none.
    """
    rule = f"{name} must be a pair of rising numbers in ({least}, {most}]"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(rule)
    low, high = value
    if (
        not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
        or not least < low <= high <= most
    ):
        raise ValueError(rule)
    return float(low), float(high)
