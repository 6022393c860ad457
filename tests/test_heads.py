"""Heads, their first weights, and the solved probe against plain references."""

import keras
import numpy as np
import pytest

from kerasft import heads, probe
from kerasft.errors import UserError


def _model(head="linear", head_init="zeros", width=6, outputs=4):
    inputs = keras.Input((width,))
    return keras.Model(inputs, heads.build(head, head_init, inputs, outputs))


def test_linear_is_one_dense_layer_on_standardised_features():
    model = _model(head_init="glorot_uniform")
    features = np.random.default_rng(0).normal(5, 3, (50, 6)).astype(np.float32)
    probe.set_statistics(model.get_layer("standardise"), features)
    kernel, bias = model.get_layer("logits").get_weights()
    expected = (features - features.mean(0)) / features.std(0) @ kernel + bias
    np.testing.assert_allclose(model(features), expected, atol=1e-4)


def test_mlp_has_the_layers_asked_for():
    model = _model("mlp(units=(8, 5), activation='relu', dropout=0.5)")
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 5, 4]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]
    assert model.get_layer("head_hidden_0").activation is keras.activations.relu


@pytest.mark.parametrize("name", ["zeros", "prior", "probe", "he_normal", "GlorotUniform", "orthogonal(gain=0.5)"])
def test_every_initialisation_builds(name):
    kernel = _model(head_init=name).get_layer("logits").get_weights()[0]
    assert np.any(kernel) == (name not in heads.SOLVED)


@pytest.mark.parametrize(
    ("head", "head_init", "message"),
    [
        ("linar", "zeros", r"--head: must be one of linear, mlp \(did you mean 'linear'\?\)"),
        ("linear(drop=1)", "zeros", r"--head: linear\(\) takes dropout \(did you mean 'dropout'\?\)"),
        ("linear", "prob", r"--head_init: must be one of .*probe.*\(did you mean 'probe'\?\)"),
    ],
)
def test_mistakes_are_refused(head, head_init, message):
    with pytest.raises(UserError, match=message):
        _model(head, head_init)
