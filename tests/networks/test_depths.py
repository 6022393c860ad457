"""The depths of a backbone, and heads that see several of them."""

import keras
import numpy as np
import pytest

from kerasft.networks import depths
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

SIZE = 64


def _network(backbone="MobileNet(alpha=0.25)", **settings):
    config = Config(backbone=backbone, weights="none", image_size=SIZE, **settings)
    return networks.build(config, 3, "single_label"), config


def test_a_depth_is_the_end_of_a_block():
    network, _ = _network()
    found = depths.find_depths(network)
    assert found[:3] == ("conv1_relu", "conv_dw_1_relu", "conv_pw_1_relu")  # after normalisation and activation
    assert found[-1] == network.backbone[-1]
    assert len(found) == 27
    assert not any("pad" in name for name in found)


@pytest.mark.parametrize("backbone", ["ResNet50V2", "DenseNet121"])
def test_a_wide_backbone_has_fewer_candidates(backbone):
    network, _ = _network(backbone)
    found = depths.find_depths(network)
    channels = [network.model.get_layer(name).output.shape[-1] for name in found]
    assert len(found) > 1
    assert sum(channels) <= depths.MAX_CHANNELS


def test_a_head_on_several_depths_sees_the_means_of_their_activations():
    network, config = _network()
    chosen = depths.find_depths(network)[-3:]
    several = depths.with_depths(network, config, chosen)
    assert several.depths == chosen
    assert depths.widths(several) == [256, 256, 256]
    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    tensors = [several.model.get_layer(name).output for name in chosen]
    *activations, features = keras.Model(
        several.model.inputs[0], [*tensors, several.model.get_layer("features").output]
    )(images)
    expected = np.concatenate([np.asarray(one).mean((1, 2)) for one in activations], 1)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    # The backbone's layers are the network's own.
    assert several.model.get_layer("conv1") is network.model.get_layer("conv1")


def test_the_last_depth_alone_is_the_network_itself():
    network, config = _network()
    assert depths.with_depths(network, config, depths.find_depths(network)[-1:]) is network


def test_learned_pooling_is_for_one_depth():
    network, config = _network(head="linear(pooling=gem)")
    with pytest.raises(UserError, match="pooling='gem' pools one depth only"):
        depths.with_depths(network, config, depths.find_depths(network)[-2:])


def test_a_saved_model_of_several_depths_is_a_backbone_again(tmp_path):
    network, config = _network()
    several = depths.with_depths(network, config, depths.find_depths(network)[-2:])
    several.model.save(tmp_path / "model.keras")
    again = networks.build(Config(backbone=str(tmp_path / "model.keras")), 4, "single_label")
    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    pooled = np.asarray(again.model_before("standardise")(images))
    np.testing.assert_allclose(pooled, network.model_before("standardise")(images), rtol=1e-4, atol=1e-5)
