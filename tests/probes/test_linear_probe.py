"""Statistics, priors and solved last layers against plain references."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from kerasft.evaluation import scoring
from kerasft.networks import heads
from kerasft.probes import folds, head_statistics, linear_probe
from kerasft.probes.penalised_models import SoftTargets


def _model(head="linear", head_init="zeros", width=6, outputs=4):
    inputs = keras.Input((width,))
    return keras.Model(inputs, heads.build(head, head_init, inputs, outputs))


def test_a_dead_feature_does_not_drown_the_others():
    model = _model(head_init="ones")
    features = np.random.default_rng(0).normal(0, 1, (50, 6)).astype(np.float32)
    features[:, 2] = 0
    head_statistics.set_statistics(model.get_layer("standardise"), features)
    woken = features.copy()
    woken[:, 2] = 1
    assert np.abs(model(woken) - model(features)).max() < 20


def test_prior_gives_the_class_frequencies():
    model = _model(head_init="prior")
    head_statistics.set_prior(model.get_layer("logits"), np.array([0, 0, 0, 1, 1, 2, 3, 3]), "single_label")
    found = scoring.apply_activation("single_label", np.asarray(model(np.ones((1, 6), np.float32))))
    np.testing.assert_allclose(found, [[3 / 8, 2 / 8, 1 / 8, 2 / 8]], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_probe_is_scikit_learns_optimum(classes):
    data = load_digits(n_class=classes)
    features, labels = (data.data / 16).astype(np.float32), data.target
    kernel, bias, penalty = linear_probe.solve(features, labels, classes, "single_label", seed=0)
    reference = LogisticRegression(C=float(penalty.removeprefix("C = ")), max_iter=5000, tol=1e-7)
    with threadpool_limits(1):
        reference.fit(features.astype(np.float64), labels)
    assert (kernel.shape, bias.shape) == ((64, classes), (classes,))
    np.testing.assert_allclose(
        scoring.apply_activation("single_label", features @ kernel + bias), reference.predict_proba(features), atol=5e-3
    )


def test_the_penalty_follows_the_noise():
    clean = make_classification(300, 20, n_informative=10, class_sep=3, random_state=0)
    noise = (clean[0], np.random.default_rng(0).integers(0, 2, 300))
    solved = [linear_probe.solve(x.astype(np.float32), y, 2, "single_label", seed=0) for x, y in (clean, noise)]
    strengths = [float(solution.penalty.removeprefix("C = ")) for solution in solved]
    assert strengths[0] > strengths[1]


def test_a_teacher_that_knows_the_labels_by_heart_does_not_weaken_the_penalty():
    """It has learned the held-out examples too: whoever imitates it seems to know them, even where there is nothing to know."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(100, 60)).astype(np.float32), rng.integers(0, 3, 100)
    knows = LogisticRegression(C=1, max_iter=5000).fit(features, labels)
    assert knows.score(features, labels) == 1
    taught = SoftTargets(knows.predict_proba(features), 2.0, 0.9)
    alone = linear_probe.solve(features, labels, 3, "single_label", seed=0)
    found = linear_probe.solve(features, labels, 3, "single_label", seed=0, soft_targets=taught)
    assert found.penalty == alone.penalty
    assert np.abs(found.kernel - alone.kernel).max() > 0.05 * np.abs(alone.kernel).max()


def test_a_class_of_one_example_leaves_the_folds_to_the_others():
    """Log loss of the ten digits with an eleventh class of one image: as good as without it."""
    data = load_digits()
    features = (data.data / data.data.std()).astype(np.float32)
    labels = data.target.astype(np.int32)
    fitted, held = slice(0, 600), slice(600, 1200)

    def loss(classes, extra):
        given = np.concatenate([features[fitted], extra]), np.append(labels[fitted], np.full(len(extra), 10))
        kernel, bias, penalty = linear_probe.solve(*given, classes, "single_label", seed=0)
        return scoring.Scorer("single_label", labels[held]).loss(features[held] @ kernel + bias), penalty

    without, penalty = loss(10, features[:0])
    with_one, chosen = loss(11, features[700:701] * 0.5)
    assert chosen == penalty
    assert with_one == pytest.approx(without, rel=0.05)


def test_rare_classes_are_fitted_in_every_fold():
    labels = np.array([0] * 20 + [1] * 3 + [2])
    pairs = folds.stratified(labels, np.arange(24), 0)
    assert len(pairs) == 5
    assert sorted(np.concatenate([held for _, held in pairs])) == list(range(23))  # all but the only one
    for fitted, held in pairs:
        assert set(labels[fitted]) == {0, 1, 2}
        assert sorted([*fitted, *held]) == list(range(24))
    assert folds.stratified(np.arange(4), np.arange(4), 0) == []


def test_rare_labels_leave_the_folds_to_the_others():
    """Loss of ten digits as labels, with six labels more of a single positive each: as good as without these."""
    data = load_digits()
    features = (data.data / data.data.std()).astype(np.float32)
    common, fitted, held = np.eye(10, dtype=np.float32)[data.target], slice(0, 400), slice(400, 1400)
    rare = np.zeros((400, 6), np.float32)
    rare[np.random.default_rng(0).permutation(400)[:6], np.arange(6)] = 1

    def loss(labels):
        kernel, bias, _ = linear_probe.solve(features[fitted], labels, labels.shape[1], "multi_label", seed=0)
        return scoring.Scorer("multi_label", common[held]).loss((features[held] @ kernel + bias)[:, :10])

    assert loss(np.concatenate([common[fitted], rare], 1)) == pytest.approx(loss(common[fitted]), rel=0.1)


def test_classes_without_an_example_get_the_chance_of_half_of_one():
    data = load_digits(n_class=3)
    features = (data.data / 16).astype(np.float32)
    kernel, bias, _ = linear_probe.solve(features, data.target * 2, 6, "single_label", seed=0)
    p = scoring.apply_activation("single_label", features @ kernel + bias)
    assert (p.argmax(1) == data.target * 2).mean() > 0.97
    assert 0 < p[:, [1, 3, 5]].mean() < 0.01
    alone = linear_probe.solve(features[:5], np.full(5, 1), 3, "single_label", seed=0)
    assert (features[:5] @ alone.kernel + alone.bias).argmax(1).tolist() == [1] * 5


def test_a_class_of_one_example_each_takes_a_strong_penalty():
    features = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    assert linear_probe.solve(features, np.arange(3), 3, "single_label", seed=0).penalty == "C = 0.01"
    assert linear_probe.solve(features[:1], np.ones((1, 2)), 2, "multi_label", seed=0).penalty == "C = 0.01"


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_constant_answer_has_the_lowest_loss(task):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    labels = labels if task == "single_label" else np.eye(3)[labels]
    weights = rng.uniform(0.2, 2, 60)
    scorer = scoring.Scorer(task, labels, weights=weights / weights.mean())
    answer = head_statistics.constant(labels, 3, task, weights)
    losses = [
        scorer.loss(np.tile(answer + step, (60, 1))) for step in (np.zeros(3), *0.1 * np.eye(3), *-0.1 * np.eye(3))
    ]
    assert min(losses[1:]) > losses[0] - 2e-4


def test_prior_of_several_labels_gives_their_frequencies():
    model = _model(head_init="prior")
    labels = (np.random.default_rng(0).random((400, 4)) < [0.1, 0.5, 0.8, 0.0]).astype(np.float32)
    head_statistics.set_prior(model.get_layer("logits"), labels, "multi_label")
    found = scoring.apply_activation("multi_label", np.asarray(model(np.ones((1, 6), np.float32))))
    np.testing.assert_allclose(found[0], labels.mean(0), atol=2e-3)


def test_several_labels_are_solved_one_against_the_rest():
    data = load_digits()
    features = (data.data[:600] / 16).astype(np.float32)
    labels = np.stack([data.target[:600] < 5, data.target[:600] % 2 == 0, data.target[:600] > 90], 1).astype(np.float32)
    kernel, bias, penalty = linear_probe.solve(features, labels, 3, "multi_label", seed=0)
    strength = float(penalty.removeprefix("C = "))
    for i in range(2):
        reference = LogisticRegression(C=strength, max_iter=1000).fit(features, labels[:, i])
        found = scoring.apply_activation("multi_label", features @ kernel[:, i] + bias[i])
        np.testing.assert_allclose(found, reference.predict_proba(features)[:, 1], atol=2e-2)
    assert not kernel[:, 2].any()  # never seen: its log odds and nothing else
    assert bias[2] == pytest.approx(np.log(0.5 / 600.5))


def test_values_are_solved_by_ridge_in_standard_units():
    data = load_diabetes()
    features = (data.data / data.data.std(0)).astype(np.float32)
    labels = np.stack([data.target, data.target * 1000 + 7], 1).astype(np.float32)
    kernel, bias, _ = linear_probe.solve(features, labels, 2, "regression", seed=0)
    outputs = features @ kernel + bias
    np.testing.assert_allclose(outputs[:, 0], outputs[:, 1], atol=1e-4)
    assert outputs.std() < 1
    assert np.corrcoef(outputs[:, 0], data.target)[0, 1] > 0.7


def test_examples_of_no_weight_do_not_count():
    data = load_digits(n_class=3)
    features, labels = (data.data / 16).astype(np.float32), data.target
    weights = np.ones(len(labels))
    weights[::2] = 0
    spoiled = labels.copy()
    spoiled[::2] = (labels[::2] + 1) % 3
    for task, form in (
        ("single_label", lambda y: y),
        ("multi_label", lambda y: np.eye(3)[y]),
        ("regression", lambda y: np.eye(3)[y]),
    ):
        kernel, bias, _ = linear_probe.solve(features, form(spoiled), 3, task, seed=0, weights=weights)
        right = (features[1::2] @ kernel + bias).argmax(1) == labels[1::2]
        assert right.mean() > 0.97, task


def test_of_many_examples_some_choose_the_penalty(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 12)).astype(np.float32)
    labels = (features[:, 0] + rng.normal(size=900) > 1.2).astype(np.int32)
    labels[:3] = 2  # a rare class
    whole = linear_probe.solve(features, labels, 3, "single_label", 0)
    monkeypatch.setattr(folds, "MAX_CV_EXAMPLES", 300)
    assert np.bincount(labels[folds.sample(labels, 0)]).min() == 2
    some = linear_probe.solve(features, labels, 3, "single_label", 0)
    ours, theirs = (features @ solved.kernel + solved.bias for solved in (some, whole))
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.97


def test_of_penalties_that_do_alike_the_strongest_is_taken(monkeypatch):
    rng = np.random.default_rng(0)
    tried = []

    def losses(_problem, rows, outputs):
        alpha = outputs[0, 0]
        tried.append(alpha)
        noise = rng.normal(0, 1, len(rows))
        return 1 + abs(np.log10(alpha) + 0.5) / 100 + (noise - noise.mean()) + (2 if alpha > 20 else 0)

    monkeypatch.setattr(linear_probe, "_held_out", lambda _p, _r, _f, alpha: np.full((60, 1), alpha))
    monkeypatch.setattr(linear_probe, "held_out_losses", losses)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    found, accuracy = linear_probe.cross_validate(features, np.arange(60) % 2, 2, "single_label", 0)
    assert accuracy == 0.5  # every output is positive
    assert found.alpha == pytest.approx(10)  # the lowest mean is 10^-0.5's; those from 30 on are measurably worse
    assert min(tried) == pytest.approx(10**-1.5)  # and two weaker ones no longer helped
