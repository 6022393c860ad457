"""Losses against their formulas."""

import keras
import numpy as np
import pytest

from kerasft import losses, spec
from kerasft.errors import UserError


def _build(text):
    return losses.build(spec.parse_one(text, "--loss"))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, 6).astype(np.int32), rng.normal(0, 3, (6, 4)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_is_its_formula(batch, smoothing):
    labels, logits = batch
    q = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = np.asarray(_build(f"cross_entropy(label_smoothing={smoothing})")(labels, logits))
    np.testing.assert_allclose(found, -(q * log_p).sum(1), rtol=1e-5)


def test_keras_own_takes_logits(batch):
    labels, logits = batch
    found = float(_build("SparseCategoricalCrossentropy")(labels, logits))
    assert found == pytest.approx(float(np.mean(_build("cross_entropy")(labels, logits))), rel=1e-5)


def test_a_model_trains_on_it():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile("sgd", _build("cross_entropy(label_smoothing=0.1)"))
    images, labels = np.random.default_rng(0).normal(size=(32, 3)), np.arange(32) % 4
    losses_seen = model.fit(images, labels, epochs=5, verbose=0).history["loss"]
    assert losses_seen[-1] < losses_seen[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cross_entropi", r"did you mean 'cross_entropy'"),
        ("cross_entropy(label_smoothing=1)", r"label_smoothing must be a number in \[0, 1\)"),
        ("cross_entropy(smoothing=0.1)", "takes label_smoothing"),
        ("MeanSquaredError", "must be one of"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _build(text)
