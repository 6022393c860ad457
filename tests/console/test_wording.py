"""Numbers in words."""

import pytest

from kerasft.console import wording


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (wording.percent(0.8954), "89.5%"),
        (wording.percent(0.99996), "over 99.9%"),
        (wording.percent(1.0), "100.0%"),
        (wording.percent(0.0001), "under 0.1%"),
        (wording.number(-0.17), "−0.170"),
        (wording.number(12345.6), "12,346"),
        (wording.number(999.7), "1,000"),
        (wording.number(-999.4), "−999"),
        (wording.number(0.9997), "0.9997"),
        (wording.number(-0.99996), "−0.99996"),
        (wording.number(0.9994), "0.999"),
        (wording.number(1.0), "1.00"),
        (wording.number(float("nan")), "not a number"),
        (wording.duration(59.7), "1 min 0 s"),
        (wording.duration(3780), "1 h 3 min"),
        (wording.count(1, "class", "classes"), "1 class"),
        (wording.classes("single_label", ("a", "b")), "2 classes"),
        (wording.classes("regression", ("id", "age")), "2 targets (id, age)"),
        (wording.classes("regression", "abcdefghijk"), "11 targets (a, b, c, d, e, f, g, h, i, j, ...)"),
        (wording.kept_weights(0.75), "three-quarter-way weights kept"),
        (wording.kept_weights(0.9), "weights at 0.9 of the way kept"),
        (wording.kept_weights(0.5, short=True), "½"),
        (wording.kept_weights(0.9, short=True), "0.9"),
    ],
)
def test_numbers_are_said_as_a_reader_expects(said, text):
    assert said.replace("\N{NO-BREAK SPACE}", " ") == text
