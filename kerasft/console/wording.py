"""Numbers as a reader expects them."""

NONE = "–"  # what could not be measured


def percent(value: float | None, digits: int = 1) -> str:
    """0.8954 -> 89.5%; what is not quite all or nothing does not read as that. None is what could not be measured."""
    if value is None:
        return NONE
    text = f"{value:.{digits}%}"
    least = 0.5 * 10 ** -(digits + 2)
    if 0 < value < least:
        return f"under {least * 2:.{digits}%}"
    if 1 - least <= value < 1:
        return f"over {1 - least * 2:.{digits}%}"
    return text


def number(value: float | None) -> str:
    """Three significant digits, without an exponent where that stays short. None is what could not be measured."""
    if value is None:
        return NONE
    if value != value or value in (float("inf"), float("-inf")):
        return "not a number" if value != value else "infinite"
    size = abs(value)
    if size >= 1000 and size < 1e9:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.3g}" if size < 1e-3 or size >= 1e9 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−") if "e" not in text else text


def duration(seconds: float) -> str:
    """3.9 s, 46 s, 2 min 5 s, 1 h 3 min, on one line."""
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
    """1 picture, 2,000 pictures."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(names: list[str], most: int = 6) -> str:
    """“a”, “b” and “c”; of many the first ones, and how many more there are."""
    shown = [f"“{name}”" for name in names[:most]] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""
