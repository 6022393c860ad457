"""Attacks stay within their limit and raise the loss, on a network whose gradient is known."""

import keras
import numpy as np
import pytest

from kerasft.evaluation import attacks


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, -1.0)(inputs))
    hidden = keras.layers.Dense(16, activation="tanh")(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.float32)
LABELS = {
    "single_label": np.arange(20, dtype=np.int32) % 2,
    "multi_label": (np.random.default_rng(1).random((20, 2)) < 0.5).astype(np.float32),
    "regression": np.random.default_rng(2).normal(0, 1, (20, 2)).astype(np.float32),
}


@pytest.mark.parametrize("task", LABELS)
def test_the_loss_is_that_of_the_scorer(task, model):
    from kerasft.evaluation.scoring import Scorer

    scale = np.array([2.0, 3.0])
    losses, slope = attacks.make_gradient(model, task, LABELS[task], scale)(IMAGES)
    expected = Scorer(task, LABELS[task], scale).losses(np.asarray(model(IMAGES)))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert slope.shape == IMAGES.shape and np.abs(slope).max() > 0


@pytest.mark.parametrize("epsilon", attacks.EPSILONS)
def test_attacks_stay_within_the_limit_and_raise_the_loss(epsilon, model):
    gradient = attacks.make_gradient(model, "single_label", LABELS["single_label"], None)
    clean, _ = gradient(IMAGES)
    made = {"fgsm": attacks.fgsm(gradient, IMAGES, epsilon), "pgd": attacks.pgd(gradient, IMAGES, epsilon, 0)}
    for changed in made.values():
        assert changed.dtype == np.float32
        assert np.abs(changed - IMAGES).max() <= epsilon + 1e-4
        assert changed.min() >= 0 and changed.max() <= 255
    fgsm, pgd = (gradient(changed)[0] for changed in made.values())
    assert fgsm.mean() > clean.mean() and (pgd >= clean).all()
    # Ten steps find at least as much as one, on average.
    assert pgd.mean() >= fgsm.mean() - 1e-3


def test_the_same_seed_gives_the_same_attack(model):
    gradient = attacks.make_gradient(model, "single_label", LABELS["single_label"], None)
    np.testing.assert_array_equal(attacks.pgd(gradient, IMAGES, 2, 7), attacks.pgd(gradient, IMAGES, 2, 7))
