"""Losses against their formulas, and every one that a task may name."""

import keras
import numpy as np
import pytest

from kerasft.optimization import losses
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

EVERY = [(task, name) for task, names in losses._FORMS.items() for name in names]
EVERY += [(task, name) for name, tasks in losses._SHORT.items() for task in tasks]
EVERY += [(task, "auto") for task in losses._FORMS]


def _build(text, task="single_label", scale=None):
    return losses.build(specs.parse_one(text, "--loss"), task, scale)


def _batch(task, count=6):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count).astype(np.int32)
    if task == "multi_label":
        labels = (rng.random((count, 4)) < 0.4).astype(np.float32)
    if task == "regression":
        labels = rng.uniform(1, 9, (count, 4)).astype(np.float32)
    return labels, rng.normal(0, 3, (count, 4)).astype(np.float32)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_every_loss_is_one_number_an_example_and_trains(task, name):
    labels, outputs = _batch(task, 32)
    loss = _build(name, task)
    assert np.asarray(loss(labels, outputs)).shape == (32,)
    inputs = np.random.default_rng(1).normal(size=(32, 40)).astype(np.float32)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.02), loss)
    seen = model.fit(inputs, labels, epochs=15, verbose=0, batch_size=32).history["loss"]
    assert seen[-1] < 0.97 * seen[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_its_formula(smoothing):
    labels, logits = _batch("single_label")
    q = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = np.asarray(_build(f"cross_entropy(label_smoothing={smoothing})")(labels, logits))
    np.testing.assert_allclose(found, -(q * log_p).sum(1), rtol=1e-5)


def test_cross_entropy_of_several_labels_is_binary():
    labels, logits = _batch("multi_label")
    p = 1 / (1 + np.exp(-logits))
    expected = -np.where(labels > 0, np.log(p), np.log1p(-p)).mean(1)
    np.testing.assert_allclose(np.asarray(_build("auto", "multi_label")(labels, logits)), expected, rtol=1e-4)


def test_focal_is_its_formula():
    labels, logits = _batch("single_label")
    p = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(6), labels]
    found = np.asarray(_build("focal(gamma=1.5)")(labels, logits))
    np.testing.assert_allclose(found, -((1 - p) ** 1.5) * np.log(p), rtol=1e-3, atol=1e-5)


def test_errors_of_values_are_in_deviations_of_the_targets():
    labels, values = _batch("regression")
    scale = [1.0, 2.0, 4.0, 100.0]
    gap = (labels - values) / scale
    np.testing.assert_allclose(
        np.asarray(_build("mse", "regression", scale)(labels, values)), (gap**2).mean(1), rtol=1e-5
    )
    np.testing.assert_allclose(
        np.asarray(_build("mae", "regression", scale)(labels, values)), abs(gap).mean(1), rtol=1e-5
    )
    big = abs(gap) > 0.5
    expected = np.where(big, 0.5 * (abs(gap) - 0.25), 0.5 * gap**2).mean(1)
    found = np.asarray(_build("huber(delta=0.5)", "regression", scale)(labels, values))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_keras_own_takes_logits_and_arguments():
    labels, logits = _batch("single_label")
    plain = np.asarray(_build("cross_entropy")(labels, logits))
    np.testing.assert_allclose(np.asarray(_build("SparseCategoricalCrossentropy")(labels, logits)), plain, rtol=1e-5)
    smooth = np.asarray(_build("cross_entropy(label_smoothing=0.2)")(labels, logits))
    found = np.asarray(_build("categorical_crossentropy(label_smoothing=0.2)")(labels, logits))
    np.testing.assert_allclose(found, smooth, rtol=1e-5)


WHOLE = {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy", "CategoricalHinge"}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, name in EVERY if task != "regression"])
def test_every_loss_takes_mixed_labels_or_says_that_it_does_not(task, name):
    labels, outputs = _batch(task)
    if name in WHOLE or (task == "multi_label" and "Hinge" in name):
        with pytest.raises(UserError, match=f"--loss: {name} needs whole labels.*Received: '{name}'"):
            losses.build(specs.parse_one(name, "--loss"), task, mixed=True)
        return
    loss = losses.build(specs.parse_one(name, "--loss"), task, mixed=True)
    whole = np.eye(4, dtype=np.float32)[labels] if task == "single_label" else labels
    np.testing.assert_allclose(loss(whole, outputs), _build(name, task)(labels, outputs), rtol=1e-5)
    mixed = 0.7 * whole + 0.3 * np.roll(whole, 1, 0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.05), loss)
    seen = model.fit(outputs, mixed, epochs=25, verbose=0).history["loss"]
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_linear_in_mixed_labels(smoothing):
    labels, logits = _batch("single_label")
    loss = losses.build(specs.parse_one(f"cross_entropy({smoothing})", "--loss"), "single_label", mixed=True)
    one, other = np.eye(4, dtype=np.float32)[labels], np.eye(4, dtype=np.float32)[np.roll(labels, 1)]
    expected = 0.3 * np.asarray(loss(one, logits)) + 0.7 * np.asarray(loss(other, logits))
    np.testing.assert_allclose(np.asarray(loss(0.3 * one + 0.7 * other, logits)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "error"), [("auto", "squared"), ("mae", "absolute"), ("huber(delta=2)", "huber"), ("LogCosh", "absolute")]
)
def test_validation_judges_values_as_the_loss_does(text, error):
    assert losses.error(specs.parse_one(text, "--loss"), "regression") == error


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("cross_entropi", "single_label", r"did you mean 'cross_entropy'"),
        ("cross_entropy(label_smoothing=1)", "single_label", r"label_smoothing must be a number in \[0, 1\)"),
        ("cross_entropy(smoothing=0.1)", "single_label", "takes label_smoothing"),
        ("focal(gamma=-1)", "single_label", r"gamma must be a number in \[0, 10\]"),
        ("mse", "single_label", "must be one of"),
        ("cross_entropy", "regression", r"must be one of .*huber.*mse"),
        ("huber(delta=0)", "regression", "delta must be a number above 0"),
        ("CTC", "multi_label", "must be one of"),
        ("BinaryCrossentropy(nonsense=1)", "multi_label", "takes"),
    ],
)
def test_mistakes_are_refused(text, task, message):
    with pytest.raises(UserError, match=message):
        _build(text, task)
