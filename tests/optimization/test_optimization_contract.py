"""What every schedule, every average and every loss keeps: a new one is tested once its name is in `__all__`."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.optimization import averages, losses, optimizers, schedules
from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

PEAK = 0.1

# First and last rate as shares of the peak, as the docstrings say, over 1000 steps.
ENDS = {
    "constant": (1, 1),
    "cosine": (0, 0),
    "linear": (0, 0),
    "one_cycle": (1 / 25, 1 / 25e4),
    "plateau": (1, 1),
    "polynomial": (0, 0),
    "step": (1, 0.01),
    "wsd": (0, 0.005),
}

LN3 = math.log(3)
# One example of each task: labels and outputs. One label of two classes has p = 1/4 and 3/4; two labels have p = 1/2 for
# the one that is there, and 3/4 for the one that is not.
EXAMPLES = {
    "single_label": ([1], [[0.0, LN3]]),
    "multi_label": ([[1.0, 0.0]], [[0.0, LN3]]),
    "regression": ([[1.0, 0.0]], [[1.5, 4.0]]),
}


def _focal(p: float) -> float:
    """The derivative of -(1 - p)^2 log p."""
    return 2 * (1 - p) * math.log(p) - (1 - p) ** 2 / p


# The loss of the example by hand, and its gradient; p (1 - p) is 3/16 for 3/4, and 1/4 for 1/2.
BY_HAND = {
    ("brier", "single_label"): (1 / 8, [3 / 16, -3 / 16]),
    ("brier", "multi_label"): ((1 / 4 + 9 / 16) / 2, [-1 / 8, 9 / 64]),
    ("class_balanced", "single_label"): (math.log(4 / 3), [1 / 4, -1 / 4]),
    ("class_balanced", "multi_label"): ((math.log(2) + math.log(4)) / 2, [-1 / 4, 3 / 8]),
    ("cross_entropy", "single_label"): (math.log(4 / 3), [1 / 4, -1 / 4]),
    ("cross_entropy", "multi_label"): ((math.log(2) + math.log(4)) / 2, [-1 / 4, 3 / 8]),
    ("focal", "single_label"): (
        (1 / 4) ** 2 * math.log(4 / 3),
        [-3 / 16 * _focal(3 / 4), 3 / 16 * _focal(3 / 4)],
    ),
    ("focal", "multi_label"): (
        ((1 / 2) ** 2 * math.log(2) + (3 / 4) ** 2 * math.log(4)) / 2,
        [1 / 4 * _focal(1 / 2) / 2, -3 / 16 * _focal(1 / 4) / 2],
    ),
    ("generalised", "single_label"): (
        (1 - 0.75**0.7) / 0.7,
        [0.75**-0.3 * 3 / 16, -(0.75**-0.3) * 3 / 16],
    ),
    ("generalised", "multi_label"): (
        (2 - 0.5**0.7 - 0.25**0.7) / 0.7 / 2,
        [-(0.5**-0.3) / 4 / 2, 0.25**-0.3 * 3 / 16 / 2],
    ),
    ("huber", "regression"): ((0.5 * 0.25 + 3.5) / 2, [1 / 4, 1 / 2]),
    ("mae", "regression"): (2.25, [1 / 2, 1 / 2]),
    ("mse", "regression"): ((0.25 + 16) / 2, [1 / 2, 4]),
    ("ordinal", "single_label"): (1 / 16, [3 / 32, -3 / 32]),
    ("pinball", "regression"): (2.25 / 2, [1 / 4, 1 / 4]),
    ("poly", "single_label"): (math.log(4 / 3) + 1 / 4, [1 / 4 + 3 / 16, -1 / 4 - 3 / 16]),
    ("poly", "multi_label"): (
        (math.log(2) + 1 / 2 + math.log(4) + 3 / 4) / 2,
        [-1 / 4 - 1 / 8, 3 / 8 + 3 / 32],
    ),
    # 0.1 of cross-entropy, and 4 times the probability of what the label is not.
    ("symmetric", "single_label"): (0.1 * math.log(4 / 3) + 1, [0.025 + 0.75, -0.025 - 0.75]),
    ("symmetric", "multi_label"): (
        (0.1 * (math.log(2) + math.log(4)) + 2 + 3) / 2,
        [-0.025 - 0.5, 0.0375 + 0.375],
    ),
}
TASKS = ("single_label", "multi_label", "regression")
LOSSES = [(name, task) for name in losses.__all__ for task in TASKS if name in losses.names(task)]


def rates(name: str, steps: int) -> list[float]:
    """The rate of each step of a phase."""
    made = schedules.build(Spec(name), PEAK, steps)
    return [float(made(step)) if callable(made) else PEAK for step in range(steps)]


@pytest.mark.parametrize("name", schedules.__all__)
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_a_schedule_is_finite_and_never_above_its_peak(name, steps):
    found = rates(name, steps)
    assert np.isfinite(found).all()
    assert 0 <= min(found) <= max(found) <= PEAK * (1 + 1e-6)
    if steps == 1000:
        assert max(found) == pytest.approx(PEAK)
        assert (found[0] / PEAK, found[-1] / PEAK) == pytest.approx(ENDS[name], abs=2e-3)
        assert schedules.last_rate(Spec(name), PEAK, steps) == pytest.approx(found[-1])


@pytest.mark.parametrize("name", schedules.__all__)
@pytest.mark.parametrize(("micro_batches", "start_step"), [(1, 0), (2, 3)])
def test_a_schedule_is_kept_with_its_optimizer_as_json(name, micro_batches, start_step):
    built, plateau = optimizers.build(Spec("sgd"), Spec(name), PEAK, 10, (), None, micro_batches, start_step)
    again = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(built))))
    by_call = [built._learning_rate, again._learning_rate]
    if not callable(by_call[0]):
        assert [float(rate) for rate in by_call] == pytest.approx([PEAK, PEAK])
        assert name in ("constant", "plateau") and (plateau is not None) == (name == "plateau")
        return
    for call in range(10):
        ours, theirs = (float(rate(call)) for rate in by_call)
        assert (
            ours
            == theirs
            == pytest.approx(float(schedules.build(Spec(name), PEAK, 10)(start_step + call // micro_batches)))
        )


@pytest.mark.parametrize("name", averages.__all__)
def test_an_average_gives_weights_of_the_models_own_shapes(name):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    built, _ = optimizers.build(Spec("sgd"), Spec("constant"), PEAK, 10, (Spec(name),), model)
    for _ in range(10):
        built.apply([keras.ops.ones(variable.shape) for variable in model.trainable_variables])
    found = averages.averaged(built, model)
    assert [value.shape for value in found] == [weight.shape for weight in model.get_weights()]
    for weight, value, last in zip(model.weights, found, model.get_weights()):
        assert np.isfinite(value).all()
        # Gradients of one sign move a weight one way, and its average stays behind; one over epochs has no part in this.
        moves = weight.trainable and averages.moving(averages.build((Spec(name),)))
        assert (value > last).all() if moves else (value == last).all()


def test_every_loss_has_a_value_by_hand():
    assert set(BY_HAND) == set(LOSSES)


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_a_loss_is_its_value_and_gradient_by_hand(name, task):
    labels, outputs = EXAMPLES[task]
    value, gradient = BY_HAND[name, task]
    labels, outputs = np.array(labels, np.int32 if task == "single_label" else np.float32), tf.Variable(outputs)
    with tf.GradientTape() as tape:
        found = losses.build(Spec(name), task)(labels, outputs)
    assert found.dtype == tf.float32
    assert found.numpy() == pytest.approx([value], rel=1e-5)
    np.testing.assert_allclose(tape.gradient(found, outputs)[0], gradient, rtol=1e-4)


@pytest.mark.parametrize(("name", "task"), LOSSES)
def test_a_loss_has_finite_gradients_and_falls(name, task):
    rng = np.random.default_rng(0)
    labels = {
        "single_label": rng.integers(0, 3, 12).astype(np.int32),
        "multi_label": (rng.random((12, 3)) < 0.4).astype(np.float32),
        "regression": rng.normal(0, 1, (12, 3)).astype(np.float32),
    }[task]
    loss, outputs = losses.build(Spec(name), task), tf.Variable(rng.normal(0, 2, (12, 3)), dtype=tf.float32)
    seen = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(loss(labels, outputs))
        gradient = tape.gradient(mean, outputs)
        assert np.isfinite(gradient).all() and np.any(gradient)
        outputs.assign_sub(2.0 * gradient)
        seen.append(float(mean))
    assert (np.diff(seen) < 0).all()


@pytest.mark.parametrize(("name", "task"), LOSSES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_a_loss_stays_finite_where_outputs_are_extreme(name, task, size):
    """A diverging phase is judged by its loss: one that is not a number on logits of 1e4 would hide by how much."""
    outputs = tf.Variable([[size, -size, 0.0]])
    labels = np.array([1], np.int32) if task == "single_label" else np.array([[0.0, 1.0, 0.0]], np.float32)
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(losses.build(specs.parse_one(name, "--loss"), task)(labels, outputs))
    assert np.isfinite(mean) and np.isfinite(tape.gradient(mean, outputs)).all()
