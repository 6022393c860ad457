"""The surgeries of a step: the mildest that are small enough, or none."""

import keras
import pytest

from kerasft.networks import depths, surgery
from kerasft.networks import network as networks
from kerasft.probes import depth_choice
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.slim import resizing, step_settings, step_surgeries
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
    assert [one.change.partition("(")[0] for one in found] == ["prune", "truncate"]
    for one in found:
        assert applied(network, one.change) == one.sizes
        assert one.sizes.of(target) <= limit
    fraction = specs.parse_one(found[0].change, "--surgery").args[0]
    milder = step_surgeries.pruned(network, target, round(fraction - 0.01, 2))
    assert milder is None or milder.sizes.of(target) > limit


def test_a_step_sees_no_more_depths_than_its_network_has(network):
    """A run with a numeric --features is made smaller to the end."""
    target, whole = parse("parameters=0.5"), step_surgeries.sizes_of(network)
    prune, truncate = step_surgeries.find(network, target, 0.5 * whole.parameters)
    most = len(depths.find_depths(network))
    assert prune.depths == most > truncate.depths
    for features, expected in ((str(most), str(truncate.depths)), ("1", "1"), ("all", "all"), ("auto", "auto")):
        own = Config(features=features)
        row = {"surgery": truncate.change, "depths": truncate.depths, "run_dir": "r"}
        config = step_settings.of_candidate(own, row, 32, 32)
        assert config.features == expected
        cut = surgery.truncate(network, *specs.parse_one(truncate.change, "").args)
        depth_choice.widest(config, cut, 100)
        del row["depths"]
        assert step_settings.of_candidate(own, row, 32, 32).features == features


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """The file of a network for images of 128x128 pixels."""
    layers = keras.layers
    inputs = keras.Input((128, 128, 3))
    hidden = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters in (4, 6, 8):
        hidden = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(hidden)
    path = tmp_path_factory.mktemp("large") / "large.keras"
    keras.Model(inputs, hidden).save(path)
    return str(path)


@pytest.fixture(scope="module")
def large(large_file):
    return networks.build(Config(backbone=large_file), 3, "single_label")


@pytest.mark.parametrize(("share", "size"), [(0.9, 112), (0.57, 96), (0.4, 80), (0.26, 64), (0.24, None)])
def test_the_largest_images_that_are_small_enough(large, large_file, share, size):
    # Three quarters of the side have 9/16 of the places.
    target, whole = parse("flops=0.5"), step_surgeries.sizes_of(large)
    found = step_surgeries.resize(large, target, share * whole.multiplications)
    if size is None:
        assert found is None
        return
    assert found.change == f"image_size({size})"
    assert found.sizes.parameters == whole.parameters
    # The run of the step builds the same.
    built = networks.build(Config(backbone=large_file, image_size=size), 3, "single_label")
    assert step_surgeries.sizes_of(built) == found.sizes
    assert found.sizes.multiplications <= share * whole.multiplications


def test_larger_images_lose_few_channels_where_the_next_size_would_remove_far_more(large, large_file):
    target, whole = parse("flops=0.5"), step_surgeries.sizes_of(large)
    limit = 0.55 * whole.multiplications
    found = step_surgeries.resize(large, target, limit)
    # 96 pixels have 9/16 of the places, 80 pixels 25/64.
    assert found.change.startswith("image_size(96) | prune(")
    assert 25 / 64 * whole.multiplications < found.sizes.multiplications <= limit
    changes = resizing.settings_of(found.change)
    assert changes == {"image_size": 96, "surgery": found.change.partition(" | ")[2]}
    # The run of the step builds the network at its size, and then applies the surgery.
    built = networks.build(Config(backbone=large_file, **changes), 3, "single_label")
    assert applied(built, changes["surgery"]) == found.sizes


def test_smaller_images_save_no_parameters(large, monkeypatch):
    for other in ("prune", "truncate"):
        monkeypatch.setattr(step_surgeries, other, lambda *_: None)
    assert [one.change for one in step_surgeries.find(large, parse("flops=0.5"), 1e9)] == ["image_size(112)"]
    assert step_surgeries.find(large, parse("parameters=0.5"), 1e9) == []


def test_a_network_for_one_size_gets_no_smaller_images(tmp_path):
    layers = keras.layers
    inputs = keras.Input((96, 96, 3))
    hidden = layers.Flatten()(layers.Conv2D(2, 3, strides=8)(layers.Rescaling(1 / 255)(inputs)))
    keras.Model(inputs, layers.ReLU()(layers.Dense(5)(hidden))).save(tmp_path / "flat.keras")
    network = networks.build(Config(backbone=str(tmp_path / "flat.keras")), 3, "single_label")
    assert step_surgeries.resize(network, parse("flops=0.5"), 1e12) is None


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
