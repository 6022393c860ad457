"""The rate by the images of a step."""

import pytest

from kerasft.optimization import lr_scaling
from kerasft.settings import spec as specs


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("sgd(momentum=0.9)", 4), ("SGD", 4), ("adamw", 2), ("lion", 2), ("mine.Sgd(0.1)", 2)],
)
def test_rates_of_sgd_are_in_proportion_and_others_with_the_square_root(optimizer, expected):
    spec = specs.parse_one(optimizer, "--optimizer")
    assert lr_scaling.factor(spec, 128, 32) == pytest.approx(expected)
    assert lr_scaling.factor(spec, 32, 128) == pytest.approx(1 / expected)
    assert lr_scaling.factor(spec, 32, 32) == 1
