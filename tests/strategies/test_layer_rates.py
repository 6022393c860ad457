"""The factor of each variable's learning rate, by its depth below the head."""

import keras
import pytest

from kerasft import strategies
from kerasft.networks import blocks
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.strategies import caching, freezing, layer_rates


@pytest.fixture(scope="module")
def network():
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="he_normal")
    return networks.build(config, 3, "single_label")


def _factors(network, phase, model=None):
    freezing.apply(network, phase)
    model = model or network.model
    found = layer_rates.multipliers(network, phase, model)
    return dict(zip([variable.path for variable in model.trainable_variables], found, strict=True))


def test_rates_fall_block_by_block_from_the_head_down(network):
    starts = blocks.starts(network)
    factors = _factors(network, strategies.full(layer_decay=0.5, head_lr=10))
    assert factors["logits/kernel"] == factors["logits/bias"] == 10
    assert factors[f"{starts[-1]}/kernel"] == 0.5
    assert factors[f"{starts[-2]}/kernel"] == 0.25
    # The stem stands before the first layer that is counted, or is it.
    assert factors["conv1/kernel"] == 0.5 ** len(starts)
    assert set(_factors(network, strategies.full()).values()) == {1.0}


def test_the_end_of_a_network_has_the_same_rates(network):
    phase = strategies.top(0.3, layer_decay=0.5, head_lr=3)
    whole = _factors(network, phase)
    _, end = caching.split_at_cut(network, phase)
    assert isinstance(end, keras.Model)
    assert _factors(network, phase, end) == whole
    assert len(whole) > 4
