"""The loss of a taught network against its formula, and its gradient by hand."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, logit, softmax

from kerasft.optimization import distillation, losses
from kerasft.settings.spec import Spec

T, A = 3.0, 0.3


def _batch(task):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5, 4)).astype(np.float32)
    if task == "single_label":
        labels, answers = np.eye(4)[rng.integers(0, 4, 5)], softmax(rng.normal(0, 2, (5, 4)), axis=1)
    elif task == "multi_label":
        labels, answers = rng.random((5, 4)) < 0.4, rng.uniform(0.01, 0.99, (5, 4))
    else:
        labels, answers = rng.normal(0, 2, (2, 5, 4))
    return np.concatenate([labels, answers], 1).astype(np.float32), logits


def _loss_and_gradient(task, targets, logits, weight=A, **more):
    own = losses.build(Spec("auto"), task, more.get("scale"), mixed=more.get("mixed", False))
    loss, given = distillation.build(own, task, 4, T, weight, **more), tf.Variable(logits)
    with tf.GradientTape() as tape:
        found = loss(tf.constant(targets), given)
    return np.asarray(found), np.asarray(tape.gradient(found, given))


def test_classes():
    targets, logits = _batch("single_label")
    labels, answers = targets[:, :4].astype(np.float64), targets[:, 4:].astype(np.float64)
    p, q, s = softmax(logits, axis=1), softmax(logits / T, axis=1), softmax(np.log(answers) / T, axis=1)
    expected = (1 - A) * -(labels * np.log(p)).sum(1) + A * T**2 * (s * np.log(s / q)).sum(1)
    found, gradient = _loss_and_gradient("single_label", targets, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, (1 - A) * (p - labels) + A * T * (q - s), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(_loss_and_gradient("single_label", targets, logits, mixed=True)[0], expected, rtol=1e-5)


def test_labels():
    targets, logits = _batch("multi_label")
    labels, answers = targets[:, :4].astype(np.float64), targets[:, 4:].astype(np.float64)
    p, q, s = expit(logits), expit(logits / T), expit(logit(answers) / T)
    own = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(1)
    gap = (s * np.log(s / q) + (1 - s) * np.log((1 - s) / (1 - q))).mean(1)
    found, gradient = _loss_and_gradient("multi_label", targets, logits)
    np.testing.assert_allclose(found, (1 - A) * own + A * T**2 * gap, rtol=1e-4)
    expected = ((1 - A) * (p - labels) + A * T * (q - s)) / 4
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_values():
    targets, values = _batch("regression")
    scale = [1.0, 2.0, 4.0, 0.5]
    own, gap = (np.square((targets[:, part] - values) / scale).mean(1) for part in (slice(0, 4), slice(4, 8)))
    found, _ = _loss_and_gradient("regression", targets, values, scale=scale)
    np.testing.assert_allclose(found, (1 - A) * own + A * gap, rtol=1e-5)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_teacher_that_is_sure_gives_a_finite_loss_and_one_that_agrees_none(task):
    targets, logits = _batch(task)
    targets[:, 4:] = np.eye(4)[[0, 1, 2, 3, 0]]
    found, gradient = _loss_and_gradient(task, targets, logits)
    assert np.isfinite(found).all() and np.isfinite(gradient).all()
    targets[:, 4:] = softmax(logits, axis=1) if task == "single_label" else expit(logits)
    found, gradient = _loss_and_gradient(task, targets, logits, weight=1.0)
    np.testing.assert_allclose([found, gradient.max(1)], 0, atol=1e-5)


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_without_a_label_only_the_teacher_counts_and_a_mixed_image_counts_by_its_labelled_share(task):
    targets, outputs = _batch(task)
    shares, mixed = np.array([1, 0, 0.25, 1, 0], np.float32), task == "single_label"
    if task == "regression":
        shares[2] = 1
    whole, _ = _loss_and_gradient(task, targets, outputs, mixed=mixed)
    taught = A * _loss_and_gradient(task, targets, outputs, weight=1.0, mixed=mixed)[0]
    partly = np.concatenate([targets[:, :4] * shares[:, None], targets[:, 4:], shares[:, None]], 1)
    found, gradient = _loss_and_gradient(task, partly, outputs, mixed=mixed, partly_labelled=True)
    np.testing.assert_allclose(found, shares * (whole - taught) + taught, rtol=1e-4)
    assert np.isfinite(gradient).all() and np.abs(gradient[1]).max() > 0.01
    alone, _ = _loss_and_gradient(task, partly, outputs, weight=1e-9, mixed=mixed, partly_labelled=True)
    np.testing.assert_allclose(alone[[1, 4]], 0, atol=1e-6)


def test_features_add_their_squared_difference():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(0, 1, (300, 6)), rng.normal(0, 1, (300, 3))
    teacher = (teacher + student @ rng.normal(0, 2, (6, 3)) + 5).astype(np.float32)
    projection = distillation.fit_projection(student, teacher)
    left = np.square(student @ projection.kernel + projection.bias - teacher).sum(1) / projection.scale
    # What a line cannot explain: the noise, by the variance of all.
    assert left.mean() == pytest.approx(3 / teacher.var(0).sum(), rel=0.1)
    targets, logits = _batch("single_label")
    own = losses.build(Spec("auto"), "single_label")
    without = distillation.build(own, "single_label", 4, T, A)(targets, logits)
    loss = distillation.build(own, "single_label", 4, T, A, projection=projection, features_weight=2.0)
    wide = np.concatenate([targets, teacher[:5]], 1), np.concatenate([logits, student[:5].astype(np.float32)], 1)
    np.testing.assert_allclose(loss(*wide), np.asarray(without) + 2 * left[:5], rtol=1e-4)
