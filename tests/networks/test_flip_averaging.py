"""The mean over an image and its mirror image: its values, its weights, its file, and the network inside of it."""

import keras
import numpy as np
import pytest

from kerasft.networks import backbones, flip_averaging
from kerasft.networks import network as networks
from kerasft.settings.config import Config


@pytest.fixture
def network(tiny):
    return networks.build(Config(backbone=tiny, head_init="glorot_uniform"), 3, "single_label")


def test_it_is_the_mean_of_both(network, tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    plain, flipped = (network.model.predict(given, verbose=0) for given in (images, images[:, :, ::-1]))
    assert np.abs(plain - flipped).max() > 1e-3
    served = network._replace(tta="flip").served()
    np.testing.assert_allclose(served.predict(images, verbose=0), (plain + flipped) / 2, atol=1e-5)
    np.testing.assert_allclose(served.predict(images[:, :, ::-1], verbose=0), (plain + flipped) / 2, atol=1e-5)
    for given, own in zip(served.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(given, own)
    served.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), (plain + flipped) / 2, atol=1e-5)
    # A later run takes the network inside as its backbone, without the mirror images.
    loaded = backbones.load(str(tmp_path / "m.keras"), "none", None)
    features = keras.Model(network.model.inputs, network.model.get_layer(network.backbone[-1]).output)
    np.testing.assert_allclose(
        loaded.model.predict(images, verbose=0), features.predict(images, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_any_other_model_is_served_as_it_is(network):
    assert network.served() is network.model
    assert flip_averaging.without_mirroring(network.model) is network.model
