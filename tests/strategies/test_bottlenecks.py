"""Adapters: one behind each block, without any effect until they train, and part of the network for good."""

import keras
import numpy as np
import pytest

from kerasft.networks import blocks, depths, surgery
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import bottlenecks, freezing, planning
from kerasft.strategies.adapter import adapter
from kerasft.strategies.variables import ADAPTER_PREFIX

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="he_normal")
    return networks.build(config, 3, "single_label")


def test_one_stands_behind_each_block_and_changes_nothing(network, tmp_path):
    found = bottlenecks.with_adapters(network, 4.0)
    starts = blocks.starts(network)
    assert blocks.starts(found) == starts
    sums = [name for name in found.backbone if name.startswith(ADAPTER_PREFIX) and name.endswith("_add")]
    assert len(sums) == len(starts)
    assert set(sums) | set(network.cuts) == set(found.cuts)
    # Behind the activation of each block.
    assert found.model.get_layer(sums[-1]).input[0]._keras_history.operation.name == "conv_pw_13_relu"
    expected = np.asarray(network.model(IMAGES, training=False))
    np.testing.assert_array_equal(np.asarray(found.model(IMAGES, training=False)), expected)
    half = surgery.precision(found, "mixed_bfloat16")
    assert half.model.get_layer(sums[-1]).compute_dtype == "bfloat16"
    # What is exported is read again by Keras alone.
    found.model.get_layer(f"{ADAPTER_PREFIX}26_up").bias.assign(np.ones(256))
    found.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        np.asarray(again(IMAGES, training=False)), np.asarray(found.model(IMAGES, training=False))
    )


def test_the_sum_behind_an_adapter_is_the_depth_that_a_head_sees(network):
    found = depths.find_depths(bottlenecks.with_adapters(network, 8.0))
    assert len(found) == len(depths.find_depths(network)) == len(blocks.starts(network))
    assert all(name.startswith(ADAPTER_PREFIX) for name in found)


def test_a_saved_model_with_adapters_gets_further_ones(network, tmp_path):
    bottlenecks.with_adapters(network, 8.0).model.save(tmp_path / "model.keras")
    again = networks.build(Config(backbone=str(tmp_path / "model.keras"), head_init="he_normal"), 3, "single_label")
    twice = bottlenecks.with_adapters(again, 8.0)
    names = [layer.name for layer in twice.model.layers]
    assert f"backbone_{ADAPTER_PREFIX}00_down" in names and f"{ADAPTER_PREFIX}00_down" in names
    np.testing.assert_allclose(twice.model(IMAGES, training=False), again.model(IMAGES, training=False), atol=1e-6)


def test_few_parameters_train_and_later_phases_train_them_too(network):
    found = bottlenecks.with_adapters(network, 8.0)
    trainable, frozen = freezing.apply(found, adapter(8))
    assert trainable < frozen
    trained = {variable.path.split("/")[0] for variable in found.model.trainable_variables}
    assert all(name == "logits" or name.startswith(ADAPTER_PREFIX) for name in trained)
    (phase,) = planning.build(planning.specs.parse_one("top(0.1)", "--phases"), "--phases")
    freezing.apply(found, phase)
    trained = {variable.path.split("/")[0] for variable in found.model.trainable_variables}
    assert f"{ADAPTER_PREFIX}26_down" in trained
    assert f"{ADAPTER_PREFIX}10_down" not in trained


def test_all_phases_have_the_same_adapters(network):
    with pytest.raises(UserError, match=r"--phases: all phases train the same adapters"):
        planning.prepare(Config(phases="adapter(2) | adapter(4)"), network)
    assert planning.prepare(Config(phases="head | auto"), network) is network
