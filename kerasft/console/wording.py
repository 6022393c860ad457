"""Formats numbers, durations, counts and lists of names for readers."""

import math
from collections.abc import Callable, Sequence

# Stands for a number that could not be measured.
NOT_MEASURED = "–"

# What is left of a phase, by the fraction of its weights: in words, and for a table.
_KEPT = {
    1.0: ("its weights kept", "all"),
    0.75: ("three-quarter-way weights kept", "¾"),
    0.5: ("half-way weights kept", "½"),
    0.25: ("quarter-way weights kept", "¼"),
    0.0: ("undone, for it gained too little", "undone"),
}


def percent(value: float | None, digits: int = 1) -> str:
    """Formats 0.8954 as 89.5%. A number near 0 or 1 is not rounded to 0% or 100%. None was not measured."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:.{digits}%}"
    least = 0.5 * 10 ** -(digits + 2)
    if 0 < value < least:
        return f"under {least * 2:.{digits}%}"
    if 1 - least <= value < 1:
        return f"over {1 - least * 2:.{digits}%}"
    return text


def number(value: float | None) -> str:
    """Formats a number with three significant digits, without an exponent if that is short. None was not measured.

    Below 1 a number is not rounded to 1: of many scores that is the best there is.
    """
    if value is None:
        return NOT_MEASURED
    if value != value or value in (float("inf"), float("-inf")):
        return "not a number" if value != value else "infinite"
    size = abs(value)
    if 999.5 <= size < 1e9:
        text = f"{value:,.0f}"
    elif 0.9995 <= size < 1:
        # As many digits as tell it from 1, and no rounding up.
        digits = min(-math.floor(math.log10(1 - size)), 16)
        text = f"{math.copysign(math.floor(size * 10**digits) / 10**digits, value):.{digits}f}"
    else:
        text = f"{value:.3g}" if size < 1e-3 or size >= 1e9 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−") if "e" not in text else text


def duration(seconds: float) -> str:
    """Formats seconds as 3.9 s, 46 s, 2 min 5 s or 1 h 3 min, with spaces that do not break."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 10:
        text = f"{seconds:.1f} s"
    elif not minutes:
        text = f"{rest} s"
    elif minutes < 60:
        text = f"{minutes} min {rest} s"
    else:
        text = f"{minutes // 60} h {minutes % 60} min"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def count(n: int, one: str, many: str = "") -> str:
    """Formats a count with its noun: 1 image, 2,000 images."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def classes(task: str, names: Sequence[str]) -> str:
    """Counts the classes of a task. The targets of a regression are named, because every column may become one."""
    if task != "regression":
        return count(len(names), "class", "classes")
    return f"{count(len(names), 'target')} ({', '.join(names[:10])}{', ...' * (len(names) > 10)})"


def signed(value: float | None, shown: Callable[[float], str] = number) -> str:
    """Formats a difference with its sign: +0.100, or -3.2% with a true minus sign. None was not measured."""
    if value is None:
        return NOT_MEASURED
    return ("+" if value > 0 else "−" if value < 0 else "") + shown(abs(value))


def span(interval: Sequence[float] | None, shown: Callable[[float], str] = number) -> str:
    """Formats an interval: 0.100 to 0.200. None was not measured."""
    return f"{shown(interval[0])} to {shown(interval[1])}" if interval else NOT_MEASURED


def kept_weights(alpha: float, *, short: bool = False) -> str:
    """What is left of a phase of which a fraction of the weights was kept, 0 where it was undone; `short` for a table."""
    other = f"weights at {alpha:.3g} of the way kept", f"{alpha:.3g}"
    return _KEPT.get(alpha, other)[short]


def join_names(names: list[str], limit: int = 6) -> str:
    """Joins names: “a”, “b” and “c”. Of many names it gives the first ones and the number of the others."""
    shown = [f"“{name}”" for name in names[:limit]] + ([f"{len(names) - limit} more"] if len(names) > limit else [])
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""
