"""The axes of a figure."""

import re

import pytest

from kerasft.evidence import figures


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.812, 0.815), (-3.2, 17), (1e-6, 2e-6), (0, 2.5e6), (250_000, 262_000), (1 + 1e-6, 1 + 3e-6)],
)
def test_the_marks_of_an_axis_are_few_round_and_inside(low, high):
    marks = figures.marks(low, high)
    assert 2 <= len(marks) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in marks)
    assert len({text for _, text in marks}) == len(marks)


def test_the_last_number_of_an_axis_is_inside_the_figure():
    x, y = figures.plane((0, 1), (0, 1))
    drawn = figures.axes(x, y, [(0, "0%"), (0.5, "50%"), (1, "100%")], [], "probability")
    places = [float(place) for place in re.findall(r'class="tick" x="([0-9.]+)"', drawn)]
    assert places[:2] == [x(0), x(0.5)]
    assert places[2] + figures.HALF_CHARACTER * len("100%") <= figures.WIDTH
