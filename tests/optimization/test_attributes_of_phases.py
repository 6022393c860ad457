"""Rates by variable with every optimizer, the pull to the start, and sharpness-aware steps: each against its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.optimization import optimizers, sharpness_aware
from kerasft.optimization.l2sp import pull_to_start
from kerasft.optimization.rate_multipliers import multiply_rates
from kerasft.settings import spec as specs

EVERY = sorted(set(specs.choices(keras.optimizers, keras.optimizers.Optimizer)) - set(optimizers._WRAPPERS))
STARTS = (
    np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32),
    np.linspace(-2, 2, 6).reshape(3, 2).astype(np.float32),
)
GRADIENTS = [
    (np.sin(np.arange(6) + step).reshape(2, 3), np.cos(np.arange(6) + step).reshape(3, 2)) for step in range(6)
]


def _moved(name, lr, factors, **arguments):
    """The values of two variables after six gradients."""
    optimizer = specs.choices(keras.optimizers, keras.optimizers.Optimizer)[name](lr, **arguments)
    variables = [keras.Variable(start, name=f"v{place}") for place, start in enumerate(STARTS)]
    optimizer.build(variables)
    multiply_rates(optimizer, factors)
    for gradients in GRADIENTS:
        optimizer.apply([tf.constant(one, tf.float32) for one in gradients], variables)
    return [np.asarray(variable) for variable in variables], optimizer


@pytest.mark.parametrize("arguments", [{"weight_decay": 0.1}, {"gradient_accumulation_steps": 2, "use_ema": True}])
@pytest.mark.parametrize("name", EVERY)
def test_a_factor_is_the_same_as_another_rate(name, arguments):
    """Each variable moves as under an optimizer of its own whose rate is `lr * factor`, decay included."""
    plain, reference = _moved(name, 1e-2, [1.0, 1.0], **arguments)
    slow, _ = _moved(name, 1e-3, [1.0, 1.0], **arguments)
    ours, optimizer = _moved(name, 1e-2, [0.1, 1.0], **arguments)
    np.testing.assert_allclose(ours[0], slow[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(ours[1], plain[1])
    assert not np.allclose(slow[0], plain[0], rtol=0, atol=1e-5)
    assert [one.shape for one in optimizer.variables] == [one.shape for one in reference.variables]


def test_no_factor_leaves_an_optimizer_alone():
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(STARTS[0])])
    multiply_rates(optimizer, [1.0])
    pull_to_start(optimizer, 0.0, [STARTS[0]])
    assert not {"update_step", "_apply_weight_decay", "_backend_apply_gradients"} & set(vars(optimizer))


def test_the_pull_is_the_gradient_of_the_penalty():
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([variable])
    pull_to_start(optimizer, 0.2, [np.array([3.0, 0.0], np.float32)])
    optimizer.apply([tf.constant([1.0, 1.0])], [variable])
    # w - lr * (g + strength * (w - start))
    np.testing.assert_allclose(variable, [1 - 0.5 * (1 + 0.2 * -2), -2 - 0.5 * (1 + 0.2 * -2)], rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_a_sharpness_aware_step_takes_the_gradient_nearby(jit):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    norm = layers.BatchNormalization(momentum=0.5)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), norm, layers.Dropout(0.0 if jit else 0.5, seed=3), layers.Dense(1)]
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(8, 1)).astype(np.float32)
    before = [np.asarray(variable).copy() for variable in model.variables]
    trained = [variable.value for variable in model.trainable_variables]

    def gradients():
        # Every pass draws the same dropout, and leaves the statistics as the first pass did.
        for variable, value in zip(model.variables, before):
            if not variable.trainable:
                variable.assign(value)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        return tape.gradient(loss, trained)

    start = [np.asarray(one).copy() for one in trained]
    first = gradients()
    statistics = [np.asarray(norm.moving_mean).copy(), np.asarray(norm.moving_variance).copy()]
    seeds = [np.asarray(one).copy() for one in model.variables if "seed" in one.path]
    assert jit or seeds
    size = np.sqrt(sum(float((np.asarray(one) ** 2).sum()) for one in first))
    for variable, gradient in zip(trained, first):
        variable.assign_add(0.05 * gradient / size)
    expected = [one - 0.1 * np.asarray(gradient) for one, gradient in zip(start, gradients())]
    for variable, value in zip(model.variables, before):
        variable.assign(value)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    vars(model)["train_step"] = sharpness_aware.make_train_step(model, 0.05)
    shown = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history["loss"][0]
    for ours, theirs in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_mean, statistics[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, statistics[1], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip([one for one in model.variables if "seed" in one.path], seeds):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isfinite(shown)


class Spare(keras.layers.Layer):
    """Has a weight that its outputs do not depend on."""

    def build(self, shape):
        self.used = self.add_weight(shape=(shape[-1],), initializer="ones", name="used")
        self.spare = self.add_weight(shape=(2,), initializer="ones", name="spare")

    def call(self, x):
        return x * self.used


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("radius", [0.0, 0.05])
def test_a_weight_that_the_outputs_do_not_depend_on_stays(radius):
    """As in Keras's own step, also under weight decay."""
    spare = Spare()
    model = keras.Sequential([keras.Input((4,)), spare, keras.layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), "mse")
    if radius:
        vars(model)["train_step"] = sharpness_aware.make_train_step(model, radius)
    x = np.linspace(-1, 1, 32).reshape(8, 4).astype(np.float32)
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    np.testing.assert_array_equal(spare.spare, [1, 1])
    assert not np.allclose(spare.used, 1)
