"""Draws figures as inline SVG, in the colours and the width of the page.

A figure is about as wide as a phone in its own units, so its text stays readable there. Colours are classes of the page's
style sheet. All text is escaped.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from markupsafe import Markup

# Size of a figure, in its own units.
WIDTH, HEIGHT = 400, 250

# Size of a panel. Two of them are as wide as a phone.
PANEL_WIDTH, PANEL_HEIGHT = 190, 120

# Margins of the plotted area.
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 12, 38

# Half of the width of a character, at most on average.
HALF_CHARACTER = 4.4

Scale = Callable[[float], float]


class Span(NamedTuple):
    """A phase in the curves: its name, its first and last epoch, and the value that was kept after it."""

    name: str
    first: int
    last: int
    kept: float


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """Returns an element. `class_` stands for class, other underscores for dashes. Numbers are rounded to a tenth."""
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _short(value)) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, given, Markup("").join(inside))


def curves(lines: dict[str, list[float | None]], spans: list[Span], title: str, ceiling: float = math.inf) -> Markup:
    """Draws lines over epochs. Phases are shaded alternately. A dashed line shows the value that was kept after each.

    Args:
        lines: values by class of line (`train`, `val`), one for each epoch. A value that is not finite leaves a gap. None was
            not measured: the line goes on to the next one.
        spans: the phases that have epochs.
        title: what the figure shows.
        ceiling: the greatest possible value.
    """
    epochs = max(map(len, lines.values()))
    measured = {
        kind: [(place, value) for place, value in enumerate(line, start=1) if value is not None]
        for kind, line in lines.items()
    }
    every = [*(value for line in measured.values() for _, value in line), *(span.kept for span in spans)]
    low, high = value_range(every)
    x, y = scale(0.5, epochs + 0.5, LEFT, WIDTH - RIGHT), scale(low, min(high, ceiling), HEIGHT - BOTTOM, TOP + 16)
    parts = []
    for index, span in enumerate(spans):
        start, end = x(span.first - 0.5), x(span.last + 0.5)
        if index % 2 == 0:
            box = {"width": end - start, "height": HEIGHT - BOTTOM - TOP}
            parts.append(tag("rect", class_="band", x=start, y=TOP, **box))
        label = span.name if 7 * len(span.name) < end - start else span.name.partition("-")[0]
        parts.append(tag("text", label, class_="label", x=(start + end) / 2, y=TOP + 12, text_anchor="middle"))
        if math.isfinite(span.kept):
            parts.append(tag("line", class_="kept", x1=start, x2=end, y1=y(span.kept), y2=y(span.kept)))
    for kind, values in measured.items():
        points = [(x(place), y(value)) if math.isfinite(value) else None for place, value in values]
        parts += polylines(kind, points)
        if epochs <= 40:
            parts += [tag("circle", class_=f"dot {kind}", cx=point[0], cy=point[1], r=2.6) for point in points if point]
    # Ticks at whole epochs, and at most eight.
    step = max(1, math.ceil(epochs / 8))
    numbers = [(place, str(place)) for place in range(step, epochs + 1, step)]
    return svg(title, axes(x, y, numbers, marks(low, min(high, ceiling)), "epoch"), *parts)


def polylines(kind: str, points: list[tuple[float, float] | None]) -> list[Markup]:
    """A line of a class through points in the figure's units; None leaves a gap."""
    return [tag("polyline", class_=f"line {kind}", points=_points(run)) for run in _runs(points)]


def panel(values: list[float], names: list[str], y_range: tuple[float, float], title: str) -> Markup:
    """Draws one small curve, of which several stand side by side. Its first value is also a dotted line.

    Args:
        values: finite, from left to right.
        names: below them.
        y_range: the same for all panels.
        title: what the figure shows.
    """
    wide, tall, left, foot = PANEL_WIDTH, PANEL_HEIGHT, 34, PANEL_HEIGHT - 18
    x, y = scale(0, len(values) - 1, left + 6, wide - 8), scale(*y_range, foot, 8)
    parts = []
    for value, text in marks(*y_range, most=3):
        parts.append(tag("line", class_="grid", x1=left, x2=wide, y1=y(value), y2=y(value)))
        parts.append(tag("text", text, class_="tick", x=left - 5, y=y(value) + 4, text_anchor="end"))
    parts.append(tag("line", class_="ideal", x1=x(0), x2=wide - 8.0, y1=y(values[0]), y2=y(values[0])))
    points = [(x(index), y(value)) for index, value in enumerate(values)]
    parts += polylines("val", points)
    parts += [tag("circle", class_="dot val", cx=point[0], cy=point[1], r=2.6) for point in points]
    for index, name in enumerate(names):
        parts.append(tag("text", name, class_="tick", x=x(index), y=tall - 3, text_anchor="middle"))
    return svg(title, *parts, height=tall, width=wide)


def interval(low: float, point: float, high: float, end: float, no_skill: float, title: str) -> Markup:
    """Draws a score with its interval on an axis from 0 to `end`, and a mark for the score without skill."""
    x = scale(0, end, 8, WIDTH - 8)
    place, tall = 26, 52
    track = {"x": 8, "y": place - 3, "width": WIDTH - 16, "height": 6, "rx": 3}
    reach = {"x": x(low), "y": place - 7, "width": max(x(high) - x(low), 2), "height": 14, "rx": 7}
    side = "start" if x(no_skill) < 60 else "end" if x(no_skill) > WIDTH - 60 else "middle"
    parts = [tag("rect", class_="track", **track), tag("rect", class_="reach", **reach)]
    parts.append(tag("line", class_="base", x1=x(no_skill), x2=x(no_skill), y1=place - 10, y2=place + 10))
    parts.append(tag("circle", class_="spot", cx=x(point), cy=place, r=6))
    parts.append(tag("text", "no skill", class_="label", x=x(no_skill), y=tall - 2, text_anchor=side))
    return svg(title, *parts, height=tall)


def svg(title: str, *inside: Markup, height: int = HEIGHT, width: int = WIDTH) -> Markup:
    """Returns a complete figure. Screen readers read its title."""
    return tag("svg", *inside, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)


def axes(x: Scale, y: Scale, x_ticks: list[tuple], y_ticks: list[tuple], name: str) -> Markup:
    """Draws grid lines with their numbers, and the name of the x axis."""
    parts, foot = [], HEIGHT - BOTTOM
    for value, text in y_ticks:
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value)))
        parts.append(tag("text", text, class_="tick", x=LEFT - 6, y=y(value) + 4, text_anchor="end"))
    for value, text in x_ticks:
        # The last one may be wider than the margin.
        place = min(x(value), WIDTH - HALF_CHARACTER * len(text))
        parts.append(tag("text", text, class_="tick", x=place, y=foot + 16, text_anchor="middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", name, class_="label", x=middle, y=HEIGHT - 4, text_anchor="middle"))
    return Markup("").join(parts)


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """Returns the linear scale that maps low to start and high to end."""
    return lambda value: start + (float(value) - low) / (high - low) * (end - start)


def plane(x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Scale, Scale]:
    """Returns the x and y scale of the plotted area."""
    return scale(*x_range, LEFT, WIDTH - RIGHT), scale(*y_range, HEIGHT - BOTTOM, TOP)


def value_range(values: Iterable[float]) -> tuple[float, float]:
    """Returns the lowest and the highest finite value with a small margin. They always differ."""
    finite = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if 0 <= low < room else low - room), high + room


def marks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """Returns round numbers in [low, high], 1, 2 or 5 times a power of ten apart, and their text."""
    power = 10 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(place * step, _number(place * step, digits, step)) for place in places]


def _number(value: float, digits: int, step: float) -> str:
    """A mark as text, with the digits that tell it from the next one."""
    if abs(value) < 1e5 and digits <= 4:
        return f"{value:.{digits}f}".replace("-", "−")
    highest, last = (math.floor(math.log10(abs(one) or step) + 1e-9) for one in (value, step))
    significant = 1 + highest - last
    return f"{value:.{max(2, significant)}g}"


def _points(run: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in run)


def _runs(points: list[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Returns the parts of a line between its gaps."""
    runs = [[]]
    for point in points:
        if point:
            runs[-1].append(point)
        else:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
