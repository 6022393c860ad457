"""Attributes of a phase, which are keyword arguments of every strategy: each a field of `Phase`, with a check from here."""

from collections.abc import Callable
from typing import Any

from kerasft.settings.errors import did_you_mean
from kerasft.settings.spec import Spec

# Pixels: networks halve their input five times.
MIN_IMAGE_SIDE = 32

# Returns the value of an attribute as it is kept, from its name and the value that was given; raises ValueError.
Check = Callable[[str, Any], Any]


def spec(name: str, value: Any) -> Spec | None:
    """A Spec, or None."""
    if not isinstance(value, Spec | None):
        raise ValueError(f"{name} must be a name or a call, without quotes")
    return value


def recipe(name: str, value: Any) -> tuple | None:
    """A tuple of Specs, or None; `none` gives an empty one."""
    given = value if isinstance(value, tuple) else (value,)
    if any(not isinstance(one, Spec | None) for one in given):
        raise ValueError(f"{name} must be names or calls joined by |, without quotes")
    if isinstance(value, Spec):
        return () if str(value) == "none" else (value,)
    return value


def boolean(name: str, value: Any) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be True or False")
    return value


def one_of(*words: str) -> Check:
    """One of some words, with or without quotes."""

    def check(name: str, value: Any) -> str:
        word = value.name if isinstance(value, Spec) else value
        if word not in words:
            listed = " or ".join(map(repr, words))
            raise ValueError(f"{name} must be {listed}{did_you_mean(str(word), words)}")
        return word

    return check


def whole_number(least: int) -> Check:
    """A whole number, or None."""

    def check(name: str, value: Any) -> int | None:
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}")
        return value

    return check


def number(rule: str, holds: Callable[[float], bool]) -> Check:
    """A number in a range, kept as a float.

    Args:
        rule: in words, such as `a number in (0, 1]`.
    """

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
            raise ValueError(f"{name} must be {rule}")
        return float(value)

    return check


def fractions(name: str, value: Any) -> tuple[float, ...]:
    """Numbers in (0, 1], one at least."""
    given = value if isinstance(value, (tuple, list)) and value else (None,)
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) or not 0 < one <= 1 for one in given):
        raise ValueError(f"{name} must be a tuple of numbers in (0, 1]")
    return tuple(map(float, given))


def auto_or(check: Check) -> Check:
    """`auto`, for what the plan of a run sets, or what another check takes."""

    def checked(name: str, value: Any) -> Any:
        return "auto" if str(value) == "auto" else check(name, value)

    return checked
