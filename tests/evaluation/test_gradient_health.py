"""The rules by which a phase is called ill, each at its threshold, and that a healthy one is left alone."""

import math

import pytest

from kerasft.evaluation import gradient_health
from kerasft.evaluation.gradient_health import HEAD, REMEDIES


def measured(**changes):
    """Three blocks and a head, healthy but for `changes`: lists of four values, from the input on."""
    rows = {"gradient": [0.1, 0.2, 0.3, 0.5], "update": [1e-3] * 4, "scale": [1.0] * 4, "dead": [0.1, 0.1, 0.1, None]}
    rows |= changes
    names = ("conv_1", "conv_2", "conv_3", HEAD)
    blocks = {name: {key: values[place] for key, values in rows.items()} for place, name in enumerate(names)}
    norms = [row["gradient"] for row in blocks.values() if row["gradient"] is not None]
    return {"gradient": math.sqrt(sum(norm**2 for norm in norms)), "blocks": blocks}


@pytest.mark.parametrize(
    ("kind", "changes", "blocks"),
    [
        ("vanishing", {"gradient": [4e-5, 0.2, 0.3, 0.5]}, ("conv_1",)),
        ("vanishing", {"gradient": [0.0, 1e-6, 0.3, 0.5]}, ("conv_1", "conv_2")),
        ("exploding", {"gradient": [0.1, 2e3, 0.3, 0.5]}, ("conv_2",)),
        ("exploding", {"gradient": [math.nan, 0.2, 0.3, 0.5]}, ("conv_1",)),
        ("large_updates", {"update": [1e-3, 0.2, 1e-3, 0.9]}, ("conv_2",)),
        ("dead", {"dead": [0.1, 0.6, 0.1, None]}, ("conv_2",)),
        ("dead", {"dead": [1.0, 0.1, 0.1, None]}, ("conv_1",)),
        ("scale", {"scale": [1.0, 1.0, 2e4, 1.0]}, ("conv_3",)),
        ("scale", {"scale": [1e-5, 1.0, 1.0, 1.0]}, ("conv_1",)),
    ],
)
def test_an_illness_is_named_with_its_place_and_a_remedy(kind, changes, blocks):
    (found,) = gradient_health.verdicts(measured(), measured(**changes), 0)
    assert (found.kind, found.blocks, found.remedy) == (kind, blocks, REMEDIES[kind])
    assert "limit" in found.detail


def test_what_is_healthy_or_not_measured_is_left_alone():
    nothing = dict.fromkeys(("gradient", "update", "scale", "dead"), [None] * 4)
    for last in (measured(), measured(**nothing), measured(gradient=[6e-5, 0.2, 0.3, 0.5]), measured(dead=[0.49] * 4)):
        assert gradient_health.verdicts(measured(), last, 0) == []


def test_units_that_were_dead_before_are_not_this_phases_doing():
    before = measured(dead=[0.1, 0.55, 0.1, None])
    assert gradient_health.verdicts(before, measured(dead=[0.1, 0.6, 0.1, None]), 0) == []
    (found,) = gradient_health.verdicts(before, measured(dead=[0.1, 0.7, 0.1, None]), 0)
    assert found.kind == "dead"


def test_a_phase_that_fell_back_has_exploded():
    (found,) = gradient_health.verdicts(measured(), measured(), 2)
    assert (found.kind, found.blocks) == ("exploding", ())
    assert "2 times" in found.detail
