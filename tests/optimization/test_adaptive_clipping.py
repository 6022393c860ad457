"""Adaptive gradient clipping against its formula, unit by unit, in every kind of layer and with every way to apply."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.optimization.adaptive_clipping import MIN_NORM, clip, clip_adaptively


def by_hand(gradient: np.ndarray, weights: np.ndarray, ratio: float) -> np.ndarray:
    """Rows of units: `g * ratio * |w| / |g|` where that is smaller than g."""
    found = gradient.copy()
    for place, (one, other) in enumerate(zip(gradient, weights)):
        most = ratio * max(np.sqrt((other**2).sum()), MIN_NORM)
        size = np.sqrt((one**2).sum())
        if size > most:
            found[place] = one * most / size
    return found


@pytest.mark.parametrize(
    ("shape", "to_units", "depthwise"),
    [
        ((5,), lambda a: a.reshape(1, -1), False),
        ((6, 4), lambda a: a.T, False),
        ((3, 3, 5, 4), lambda a: a.reshape(-1, 4).T, False),
        ((3, 3, 5, 2), lambda a: a.reshape(9, 10).T, True),
    ],
)
def test_units_are_those_of_the_paper(shape, to_units, depthwise):
    rng = np.random.default_rng(0)
    gradient, weights = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    gradient *= np.linspace(0.001, 1, shape[-1]).astype(np.float32)
    found = np.asarray(clip(tf.constant(gradient), tf.constant(weights), 0.05, depthwise=depthwise))
    np.testing.assert_allclose(to_units(found), by_hand(to_units(gradient), to_units(weights), 0.05), rtol=1e-5)
    # Small gradients pass, large ones do not.
    assert (len(shape) == 1) or 0 < (found == gradient).sum() < found.size


def test_weights_that_begin_at_zero_can_move():
    found = np.asarray(clip(tf.ones((3,)), tf.zeros((3,)), 0.1))
    assert np.sqrt((found**2).sum()) == pytest.approx(0.1 * MIN_NORM)


@pytest.mark.parametrize("arguments", [{}, {"global_clipnorm": 1.0}, {"gradient_accumulation_steps": 2}])
def test_the_optimizer_moves_by_what_is_left_and_spares_what_is_excluded(arguments):
    first, last = (keras.Variable(np.ones((2, 3), np.float32), name=name) for name in ("first", "last"))
    optimizer = keras.optimizers.SGD(1.0, **arguments)
    optimizer.build([first, last])
    clip_adaptively(optimizer, 0.1, [], [last])
    for _ in range(arguments.get("gradient_accumulation_steps", 1)):
        optimizer.apply([tf.fill((2, 3), 50.0), tf.fill((2, 3), 50.0)], [first, last])
    # Each unit has weights of norm sqrt(2), so its step is 0.1 of that.
    np.testing.assert_allclose(first, np.full((2, 3), 0.9), rtol=1e-6)
    moved = 1 - np.asarray(last)
    assert (moved > 0.2).all()


def test_a_separable_convolution_is_a_depthwise_one_and_one_of_places():
    layer = keras.layers.SeparableConv2D(4, 3)
    layer.build((None, 8, 8, 2))
    before = [np.asarray(weight) for weight in layer.weights]
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(layer.trainable_variables)
    clip_adaptively(optimizer, 0.1, [layer], [])
    gradients = [tf.fill(weight.shape, 50.0) for weight in layer.weights]
    optimizer.apply(gradients, layer.trainable_variables)
    for place, (weight, old, gradient) in enumerate(zip(layer.weights, before, gradients)):
        step = clip(gradient, tf.constant(old), 0.1, depthwise=place == 0)
        np.testing.assert_allclose(weight, old - np.asarray(step), rtol=1e-5)


def test_without_a_ratio_an_optimizer_is_left_alone():
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(np.ones(3))])
    clip_adaptively(optimizer, 0.0, [], [])
    assert "_backend_update_step" not in vars(optimizer)
