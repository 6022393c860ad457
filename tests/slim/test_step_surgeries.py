"""The surgeries of a step: the mildest that are small enough, or none."""

import pytest

from kerasft.networks import network as networks
from kerasft.networks import surgery
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.slim import step_surgeries
from kerasft.slim.target import parse


@pytest.fixture(scope="module")
def network(tiny):
    return networks.build(Config(backbone=tiny), 3, "single_label")


def applied(network, text):
    spec = specs.parse_one(text, "--surgery")
    return step_surgeries.sizes_of(getattr(surgery, spec.name)(network, *spec.args, **spec.kwargs))


@pytest.mark.parametrize(("text", "share"), [("flops=0.5", 0.8), ("parameters=0.5", 0.5)])
def test_each_candidate_is_the_mildest_that_is_small_enough(network, text, share):
    target = parse(text)
    limit = share * step_surgeries.sizes_of(network).of(target)
    found = step_surgeries.find(network, target, limit)
    assert [one.surgery.partition("(")[0] for one in found] == ["prune", "truncate"]
    for one in found:
        assert applied(network, one.surgery) == one.sizes
        assert one.sizes.of(target) <= limit
    fraction = specs.parse_one(found[0].surgery, "--surgery").args[0]
    milder = step_surgeries.pruned(network, target, round(fraction - 0.01, 2))
    assert milder is None or milder.sizes.of(target) > limit


def test_less_is_left_of_a_smaller_limit(network):
    target, whole = parse("flops=0.5"), step_surgeries.sizes_of(network).multiplications
    left = [step_surgeries.prune(network, target, share * whole).sizes.multiplications for share in (0.7, 0.4)]
    assert left[0] > left[1]


def test_nothing_is_found_where_nothing_is_small_enough(network):
    assert (
        step_surgeries.find(network, parse("flops=0.5"), 0.0001 * step_surgeries.sizes_of(network).multiplications)
        == []
    )


def test_a_network_without_channels_to_remove_and_blocks_to_drop(blind):
    network = networks.build(Config(backbone=blind), 3, "single_label")
    assert step_surgeries.truncate(network, parse("flops=0.5"), 1e9) is None
