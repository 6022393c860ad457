"""What every surgery keeps to: a Network again, the same weights to the bit, the same outputs in float32."""

import keras
import numpy as np
import pytest
from conftest import EVERY_BACKBONE

from kerasft.networks import network as networks
from kerasft.networks import surgery
from kerasft.networks.network import Network
from kerasft.settings.config import Config

# For each surgery the arguments that it is tried with, and whether it then computes the same function of the same images.
CASES = {
    "precision": [(("float32",), True), (("mixed_bfloat16",), False), (("mixed_float16",), False)],
    "resolution": [((64,), True), ((96,), False), ((32,), False)],
}
GIVEN = [(name, arguments, alike) for name, cases in CASES.items() for arguments, alike in cases]


def _network(backbone: str) -> Network:
    keras.utils.set_random_seed(0)
    config = Config(backbone=backbone, weights="none", image_size=64, head="mlp", head_init="he_normal")
    return networks.build(config, 3, "single_label")


def _images(side: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def _same(ours: keras.Model, theirs: keras.Model) -> None:
    assert [weight.path for weight in ours.weights] == [weight.path for weight in theirs.weights]
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), one.path


def test_every_surgery_is_tried_here():
    assert set(surgery.__all__) == set(CASES)


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
@pytest.mark.parametrize(("name", "arguments", "alike"), GIVEN)
def test_a_network_comes_of_a_network_with_the_same_weights(backbone, name, arguments, alike):
    # InceptionV3 and its like take no less than 75 pixels.
    sizes = [argument for argument in arguments if isinstance(argument, int)]
    if sizes and min(sizes) < 75 and backbone.startswith(("Inception", "Xception")):
        pytest.skip(f"{backbone} takes no images of {sizes[0]} pixels")
    network = _network(backbone) if not backbone.startswith(("Inception", "Xception")) else None
    if network is None:
        pytest.skip(f"{backbone} takes no images of 64 pixels")
    kept = [np.asarray(weight).tobytes() for weight in network.model.weights]
    found = getattr(surgery, name)(network, *arguments)
    assert isinstance(found, Network)
    # All that is said of the network is as before, but for what the surgery changes.
    changed = {"model": None} | ({"size": None} if name == "resolution" else {})
    assert found._replace(**changed) == network._replace(**changed)
    _same(found.model, network.model)
    assert found.model.count_params() == network.model.count_params()
    assert [np.asarray(weight).tobytes() for weight in network.model.weights] == kept
    assert found.model.output.dtype == "float32"
    side = found.size
    assert found.model.inputs[0].shape == (None, side, side, 3)
    if alike:
        expected = np.asarray(network.model(_images(64), training=False))
        got = np.asarray(found.model(_images(64), training=False))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "there", "back"), [("precision", "mixed_bfloat16", "float32"), ("resolution", 96, 64)]
)
def test_there_and_back_again_the_outputs_are_the_same(name, there, back):
    network = _network("MobileNet(alpha=0.25)")
    change = getattr(surgery, name)
    returned = change(change(network, there), back)
    _same(returned.model, network.model)
    expected = np.asarray(network.model(_images(64), training=False))
    found = np.asarray(returned.model(_images(64), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "argument"), [("precision", "float32"), ("resolution", 64)])
def test_where_nothing_is_to_change_the_network_itself_comes_back(name, argument):
    network = _network("MobileNet(alpha=0.25)")
    assert getattr(surgery, name)(network, argument) is network
