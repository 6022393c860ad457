"""A blend of two activations: what it computes on its way, and what is left of it."""

import keras
import numpy as np
import pytest

from kerasft.networks import blending, blocks, surgery
from kerasft.networks import network as networks
from kerasft.settings.config import Config

VALUES = np.linspace(-3, 3, 12, dtype=np.float32).reshape(1, 3, 4)


def test_a_blend_goes_from_the_old_activation_to_the_new_one():
    blend = blending.Blend(keras.layers.ReLU(), keras.layers.Activation("tanh"), 4)
    relu, tanh = np.maximum(VALUES, 0), np.tanh(VALUES)
    np.testing.assert_array_equal(blend(VALUES), relu)
    blend.share.assign(0.25)
    np.testing.assert_allclose(blend(VALUES), 0.75 * relu + 0.25 * tanh, rtol=1e-6)
    with blending.new_alone([blend]):
        np.testing.assert_allclose(blend(VALUES), tanh, rtol=1e-6)
    assert float(blend.share) == 0.25


@pytest.fixture
def blended(tiny):
    network = networks.build(Config(backbone=str(tiny), head_init="he_normal"), 2, "single_label")
    return network, surgery.activation(network, relu="PReLU", blend=8)


def test_blocks_are_those_that_they_were(blended):
    network, found = blended
    assert blocks.starts(found) == blocks.starts(network)


def test_what_is_settled_has_one_activation_in_each_place(blended):
    network, found = blended
    images = np.random.default_rng(0).uniform(0, 255, (2, network.size, network.size, 3)).astype(np.float32)
    blends = blending.blends_of(found.model)
    assert len(blends) > 1 and blending.without_blends(network) is network
    np.testing.assert_array_equal(blending.without_blends(found).model(images), network.model(images))
    for blend in blends[1:]:
        blend.share.assign(1.0)
        blend.new.alpha.assign(np.full(blend.new.alpha.shape, 0.5))
    settled = blending.without_blends(found).model
    assert not blending.blends_of(settled)
    kinds = [isinstance(settled.get_layer(blend.name), keras.layers.PReLU) for blend in blends]
    assert kinds == [False] + [True] * (len(blends) - 1)
    np.testing.assert_allclose(settled(images), found.model(images), rtol=1e-6, atol=1e-6)


def test_weights_with_shares_of_one_differ_in_nothing_else(blended):
    _, found = blended
    first, *others = blending.blends_of(found.model)
    weights = found.model.get_weights()
    changed = blending.with_shares_of_one(found.model, weights, others)
    names = [weight.path for weight, a, b in zip(found.model.weights, weights, changed) if not np.array_equal(a, b)]
    assert names == [blend.share.path for blend in others]
    assert first.share.path not in names
