"""Schedules against their formulas; optimizers by Keras's names, with decay and clipping as stated."""

import keras
import numpy as np
import pytest

from kerasft import optimizers, spec
from kerasft.errors import UserError


def _build(text="adamw", schedule="constant", lr=0.1, steps=100):
    return optimizers.build(spec.parse_one(text, "--optimizer"), spec.parse_one(schedule, "--schedule"), lr, steps)


def test_cosine_warms_up_and_falls_to_nothing():
    rate = optimizers.cosine(0.1, 100, warmup=0.2)
    found = [float(rate(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(found, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)
    np.testing.assert_allclose(float(optimizers.cosine(0.1, 100, warmup=0)(50)), 0.05, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd(momentum=0.9)", "adamw", "Adam", "nadam", "rmsprop", "lion", "adagrad"])
def test_keras_optimizers_by_name(name):
    built = _build(name)
    assert float(built.learning_rate) == pytest.approx(0.1)
    assert built.global_clipnorm == optimizers.MAX_NORM
    variable = keras.Variable([1.0, 2.0])
    built.build([variable])
    built.apply([keras.ops.ones(2)])
    assert np.all(np.asarray(variable) < [1, 2])


def test_ones_own_clipping_wins():
    assert _build("sgd(clipvalue=0.5)").global_clipnorm is None
    assert _build("sgd(global_clipnorm=5)").global_clipnorm == 5


def test_weight_decay_leaves_biases_and_normalisation_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    built = _build("adamw(weight_decay=0.5)")
    built.build(model.trainable_variables)
    built.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    values = {variable.name: float(np.mean(variable)) for variable in model.trainable_variables}
    assert values == {"kernel": pytest.approx(0.95), "bias": 1, "gamma": 1, "beta": 1}


@pytest.mark.parametrize(
    ("text", "schedule", "message"),
    [
        ("adamv", "constant", r"--optimizer: must be one of .*did you mean"),
        ("sgd(momentun=0.9)", "constant", r"did you mean 'momentum'"),
        ("adamw", "cosin", r"--schedule: must be one of constant, cosine \(did you mean 'cosine'\?\)"),
        ("adamw", "cosine(warmup=2)", r"warmup must be in \[0, 1\)"),
        ("adamw(learning_rate=1)", "constant", "takes"),
    ],
)
def test_mistakes_are_refused(text, schedule, message):
    with pytest.raises(UserError, match=message):
        _build(text, schedule)
