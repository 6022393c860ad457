"""Heads, their first weights, and the solved probe against plain references."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression

from kerasft import evaluate, heads
from kerasft.errors import UserError


def _model(head="linear", head_init="zeros", width=6, outputs=4):
    inputs = keras.Input((width,))
    return keras.Model(inputs, heads.build(head, head_init, inputs, outputs))


def test_linear_is_one_dense_layer_on_standardised_features():
    model = _model(head_init="glorot_uniform")
    features = np.random.default_rng(0).normal(5, 3, (50, 6)).astype(np.float32)
    heads.set_statistics(model.get_layer("standardise"), features)
    kernel, bias = model.get_layer("logits").get_weights()
    expected = (features - features.mean(0)) / features.std(0) @ kernel + bias
    np.testing.assert_allclose(model(features), expected, atol=1e-4)


def test_a_dead_feature_does_not_drown_the_others():
    model = _model(head_init="ones")
    features = np.random.default_rng(0).normal(0, 1, (50, 6)).astype(np.float32)
    features[:, 2] = 0
    heads.set_statistics(model.get_layer("standardise"), features)
    woken = features.copy()
    woken[:, 2] = 1
    assert np.abs(model(woken) - model(features)).max() < 20


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


def test_prior_gives_the_class_frequencies():
    model = _model(head_init="prior")
    heads.set_prior(model.get_layer("logits"), np.array([0, 0, 0, 1, 1, 2, 3, 3]))
    found = evaluate.probabilities(np.asarray(model(np.ones((1, 6), np.float32))))
    np.testing.assert_allclose(found, [[3 / 8, 2 / 8, 1 / 8, 2 / 8]], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_probe_is_scikit_learns_optimum(classes):
    data = load_digits(n_class=classes)
    features, labels = (data.data / 16).astype(np.float32), data.target
    kernel, bias, strength = heads.probe(features, labels, classes, seed=0)
    reference = LogisticRegression(C=strength, max_iter=1000).fit(features, labels)
    assert (kernel.shape, bias.shape) == ((64, classes), (classes,))
    np.testing.assert_allclose(
        evaluate.probabilities(features @ kernel + bias), reference.predict_proba(features), atol=1e-5
    )


def test_the_penalty_follows_the_noise():
    clean = make_classification(300, 20, n_informative=10, class_sep=3, random_state=0)
    noise = (clean[0], np.random.default_rng(0).integers(0, 2, 300))
    strengths = [heads.probe(x.astype(np.float32), y, 2, seed=0)[2] for x, y in (clean, noise)]
    assert strengths[0] > strengths[1]


def test_a_class_of_one_example_is_no_crash():
    features = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    kernel, _, strength = heads.probe(features, np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), 3, seed=0)
    assert kernel.shape == (3, 3)
    assert strength == 0.01
