"""Losses against their formulas, and every one that a task may name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.evaluation.scoring import Scorer
from kerasft.optimization import losses
from kerasft.optimization.losses import keras_losses
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

EVERY = [
    (task, name) for task in keras_losses.FORMS for name in ("auto", *losses.names(task), *keras_losses.FORMS[task])
]


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


def _descended(loss, labels, outputs):
    """The share of the loss that is left after some steps against the gradient."""
    outputs, seen = tf.Variable(outputs), []
    for _ in range(20):
        with tf.GradientTape() as tape:
            found = loss(labels, outputs)
        seen.append(float(np.mean(found)))
        outputs.assign_sub(0.5 * tape.gradient(found, outputs))
    return seen[-1] / seen[0]


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_every_loss_is_one_number_an_example_and_trains(task, name):
    labels, outputs = _batch(task, 32)
    loss = _build(name, task)
    assert np.asarray(loss(labels, outputs)).shape == (32,)
    assert _descended(loss, labels, outputs) < 0.97


@pytest.mark.parametrize("task", keras_losses.FORMS)
def test_fit_takes_a_loss_with_labels_as_they_are(task):
    labels, _ = _batch(task, 32)
    inputs = np.random.default_rng(1).normal(size=(32, 40)).astype(np.float32)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.02), _build("auto", task))
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


UNBOUNDED = ("cross_entropy", "focal", "poly", "symmetric", "class_balanced")


@pytest.mark.parametrize("name", UNBOUNDED)
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_what_is_surely_wrong_still_has_a_gradient(name, task):
    """A loss that clips its probabilities has none at logits of -100, and the example is never learned."""
    labels = np.array([0], np.int32) if task == "single_label" else np.array([[1.0, 0.0]], np.float32)
    outputs = tf.Variable([[-100.0, 100.0]])
    with tf.GradientTape() as tape:
        loss = _build(name, task)(labels, outputs)
    weight = 0.1 if name == "symmetric" else 1.0
    np.testing.assert_allclose(
        tape.gradient(loss, outputs), [[-weight, weight]] / np.float32(1 + (task != "single_label")), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["brier", "ordinal"])
def test_a_proper_score_is_lowest_at_the_shares_themselves(name):
    shares = np.array([[0.5, 0.2, 0.3]], np.float32)
    loss = losses.build(specs.parse_one(name, "--loss"), "single_label", mixed=True)
    assert float(loss(shares, np.log(shares))[0]) == pytest.approx(0, abs=1e-12)
    for other in np.random.default_rng(0).dirichlet(np.ones(3), 20):
        assert float(loss(shares, np.log(other, dtype=np.float32)[None])[0]) > 0


def test_ordinal_is_worse_the_farther_a_class_is():
    loss = _build("ordinal")
    near, far = (float(loss(np.array([0], np.int32), 20.0 * np.eye(4, dtype=np.float32)[[at]])[0]) for at in (1, 3))
    assert (near, far) == pytest.approx((1, 3), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("poly(epsilon=0, label_smoothing=0.2)", "cross_entropy(0.2)"),
        ("focal(0)", "cross_entropy"),
        ("generalised(1e-6)", "cross_entropy"),
        ("symmetric(alpha=1, beta=0)", "cross_entropy"),
        ("class_balanced(gamma=2)", "focal(2)"),
        ("class_balanced(label_smoothing=0.2)", "cross_entropy(0.2)"),
    ],
)
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_loss_goes_over_into_its_relative(text, like, task):
    labels, logits = _batch(task)
    np.testing.assert_allclose(
        _build(text, task)(labels, logits), _build(like, task)(labels, logits), rtol=1e-4, atol=1e-5
    )


def test_generalised_at_1_is_half_the_absolute_error():
    labels, logits = _batch("single_label")
    p = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(
        _build("generalised(1)")(labels, logits), abs(p - np.eye(4)[labels]).sum(1) / 2, rtol=1e-4
    )


def test_class_balanced_weighs_by_the_effective_number():
    labels, logits = _batch("single_label")
    counts, beta = np.array([1, 10, 100, 0]), 0.9
    weights = np.array([(1 - beta) / (1 - beta**n) if n else 0 for n in counts])
    weights *= 3 / weights.sum()
    spec = specs.parse_one("class_balanced(beta=0.9)", "--loss")
    plain = np.asarray(_build("cross_entropy")(labels, logits))
    found = losses.build(spec, "single_label", counts=counts, examples=111)(labels, logits)
    np.testing.assert_allclose(found, weights[labels] * plain, rtol=1e-4)
    mixed = losses.build(spec, "single_label", counts=counts, examples=111, mixed=True)
    shares = np.array([[0.25, 0.75, 0, 0]], np.float32)
    expected = (0.25 * weights[0] + 0.75 * weights[1]) * -(shares[0] @ np.log(np.asarray(keras.ops.softmax(logits[0]))))
    assert float(mixed(shares, logits[:1])[0]) == pytest.approx(expected, rel=1e-4)


def test_class_balanced_weighs_a_label_against_its_absence():
    logits = np.array([[0.0, 1.0]], np.float32)
    loss = losses.build(
        specs.parse_one("class_balanced(beta=0.9)", "--loss"), "multi_label", counts=np.array([2, 8]), examples=8
    )
    present, absent = 1 / (1 - 0.9**2), 1 / (1 - 0.9**6)
    # The second label has no absence to balance against.
    expected = (2 * present / (present + absent) * np.log(2) + np.log1p(np.exp(-1))) / 2
    assert float(loss(np.array([[1.0, 1.0]], np.float32), logits)[0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_pinball_is_its_formula_and_lowest_at_the_quantile(quantile):
    labels, values = _batch("regression")
    scale = [1.0, 2.0, 4.0, 100.0]
    r = (labels - values) / scale
    text = f"pinball({quantile})"
    expected = np.where(r > 0, quantile * r, (quantile - 1) * r)
    np.testing.assert_allclose(_build(text, "regression", scale)(labels, values), expected.mean(1), rtol=1e-5)
    scorer = Scorer("regression", labels, np.array(scale), error="pinball", quantile=quantile)
    np.testing.assert_allclose(scorer.errors(values), expected, rtol=1e-6)
    targets = np.arange(101, dtype=np.float32)[:, None]
    means = [
        float(np.mean(_build(text, "regression")(targets, np.full((101, 1), at, np.float32)))) for at in range(101)
    ]
    assert np.argmin(means) == round(100 * quantile)


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
    assert _descended(loss, mixed, outputs) < 1


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_linear_in_mixed_labels(smoothing):
    labels, logits = _batch("single_label")
    loss = losses.build(specs.parse_one(f"cross_entropy({smoothing})", "--loss"), "single_label", mixed=True)
    one, other = np.eye(4, dtype=np.float32)[labels], np.eye(4, dtype=np.float32)[np.roll(labels, 1)]
    expected = 0.3 * np.asarray(loss(one, logits)) + 0.7 * np.asarray(loss(other, logits))
    np.testing.assert_allclose(np.asarray(loss(0.3 * one + 0.7 * other, logits)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("auto", "squared"),
        ("mae", "absolute"),
        ("huber(delta=2)", "huber"),
        ("LogCosh", "absolute"),
        ("pinball(0.9)", "pinball"),
    ],
)
def test_validation_judges_values_as_the_loss_does(text, error):
    spec = specs.parse_one(text, "--loss")
    assert losses.error(spec, "regression") == error
    assert losses.quantile(spec, "regression") == (0.9 if error == "pinball" else None)


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("cross_entropi", "single_label", r"did you mean 'cross_entropy'"),
        ("cross_entropy(label_smoothing=1)", "single_label", r"label_smoothing must be a number in \[0, 1\)"),
        ("cross_entropy(smoothing=0.1)", "single_label", "takes label_smoothing"),
        ("focal(gamma=-1)", "single_label", r"gamma must be a number in \[0, 10\]"),
        ("mypack.Loss(0.2)", "single_label", r"must be one of .*; dotted names, .* are not taken here\. Received"),
        ("mse", "single_label", "must be one of"),
        ("cross_entropy", "regression", r"must be one of .*huber.*mse"),
        ("huber(delta=0)", "regression", "delta must be a number above 0"),
        ("CTC", "multi_label", "must be one of"),
        ("ordinal", "multi_label", "must be one of"),
        ("pinball(quantile=1)", "regression", r"quantile must be a number in \(0, 1\)"),
        ("poly(epsilon=-2)", "single_label", r"epsilon must be a number in \[-1, 100\]"),
        ("poly(label_smoothing=True)", "single_label", r"label_smoothing must be a number in \[0, 1\)"),
        ("symmetric(alpha=0)", "single_label", r"alpha must be a number in \(0, 100\]"),
        ("symmetric(floor=0)", "single_label", r"floor must be a number in \[-20, 0\)"),
        ("generalised(q=0)", "multi_label", r"q must be a number in \(0, 1\]"),
        ("class_balanced(beta=1)", "single_label", r"beta must be a number in \[0, 1\)"),
        ("class_balanced(counts=3)", "single_label", "takes beta, gamma, label_smoothing"),
        ("BinaryCrossentropy(nonsense=1)", "multi_label", "takes"),
        (
            "BinaryCrossentropy(axis=0)",
            "multi_label",
            r"BinaryCrossentropy\(\) takes label_smoothing\. Received: 'axis='",
        ),
        ("CategoricalCrossentropy(reduction=sum)", "single_label", "takes label_smoothing. Received: 'reduction='"),
        ("CategoricalCrossentropy(dtype=float16)", "single_label", "takes label_smoothing. Received: 'dtype='"),
        ("CategoricalCrossentropy(label_smoothing=2)", "single_label", r"label_smoothing must be a number in \[0, 1\)"),
        ("BinaryCrossentropy(label_smoothing=abc)", "multi_label", r"label_smoothing must be a number in \[0, 1\)"),
    ],
)
def test_mistakes_are_refused(text, task, message):
    with pytest.raises(UserError, match=message):
        _build(text, task)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("CategoricalFocalCrossentropy(alpha=(1, 2))", "single_label"),
        ("CategoricalFocalCrossentropy(gamma=abc)", "single_label"),
        ("BinaryFocalCrossentropy(gamma='a')", "multi_label"),
    ],
)
def test_what_keras_cannot_compute_is_found_by_a_call(text, task):
    spec = specs.parse_one(text, "--loss")
    name = text.partition("(")[0]
    with pytest.raises(
        UserError, match=rf"--loss: {name}\(\) cannot be computed with these arguments for 3 outputs \("
    ):
        losses.check(spec, task, 3)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("task", keras_losses.FORMS)
def test_every_loss_passes_the_check(task, mixed):
    for name in (*losses.names(task), *keras_losses.FORMS[task]):
        if not (mixed and name in keras_losses.WHOLE):
            losses.check(specs.Spec(name), task, 3, mixed=mixed)
    losses.check(specs.parse_one("CategoricalFocalCrossentropy(alpha=(1, 2, 1))", "--loss"), "single_label", 3)
