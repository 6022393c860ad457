"""A student and its teacher: the same images, answers that are computed once, and what a student makes of them."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import splits_of
from training_runs import begun, same, trained

from kerasft import augment
from kerasft.data import splits
from kerasft.evaluation import scoring
from kerasft.export import saved_model
from kerasft.networks import network as networks
from kerasft.probes import linear_probe, penalised_models
from kerasft.settings import distillation
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import feature_cache
from kerasft.storage.feature_cache import CachedAugmentation
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training import checkpointer, fitting, phase_inputs, train_setup
from kerasft.training import distillation as distilling
from kerasft.training import teacher as teachers


@pytest.fixture(scope="module")
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


@pytest.fixture(scope="module")
def network(tiny):
    """Of random weights, under which images differ."""
    keras.utils.set_random_seed(1)
    made = networks.build(Config(backbone=tiny, head_init="he_normal"), 2, "single_label")
    layer = made.model.get_layer("logits")
    layer.set_weights([30 * layer.get_weights()[0], layer.get_weights()[1]])
    return made


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    """A run folder, whose classes are in another order than those of the data."""
    return _run_folder(network.model, tmp_path_factory.mktemp("teacher"), ["square", "disc"], 32)


def _run_folder(model, folder, classes, size, task="single_label"):
    # As the artefact of a run is written: its outputs are a list.
    keras.Model(model.inputs, model.outputs).save(folder / "model.keras")
    about = {"task": task, "classes": classes, "image_size": size, "framing": "crop"}
    (folder / "metrics.json").write_text(json.dumps(about))
    return str(folder)


def _loaded(path, classes=("disc", "square"), size=32, task="single_label", **settings):
    asked = distillation.requested(Config(teacher=path, **settings), task, classes)
    return teachers.load(asked, size, classes)


def _probabilities(network, split):
    images = split.images(np.arange(len(split))).astype(np.float32)
    return scoring.apply_activation("single_label", np.asarray(network.model(images, training=False)))


def _setup(data, network, folder, **settings):
    phase = Phase(strategy="all", unfreeze=1.0, epochs=2, lr=1e-3, augment=())
    return begun(network, data, folder, phase, Config(tensorboard=False, **settings)).setup


def test_answers_are_those_of_the_network_in_the_students_order(network, run, data, tmp_path):
    made = tmp_path / "exported" / "7"
    saved_model.write(network, saved_model.Answer("r", ("square", "disc")), made)
    expected = _probabilities(network, data.train)[:, ::-1]
    cache = _setup(data, network, tmp_path).cache
    assert expected.std(0).min() > 0.01
    loaded = {path: _loaded(path) for path in (run, str(made), str(made.parent), f"{run} | {made}")}
    for path, teacher in loaded.items():
        np.testing.assert_allclose(teacher.answers(cache, data.train, 32), expected, atol=1e-5, err_msg=path)
    assert len({teacher.prefix.digest for teacher in loaded.values()}) == 3


def _mean_colour(side):
    """A network that answers by the mean colour, so that every place of an image counts."""
    inputs = keras.Input((side, side, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64, -1.0)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=0))(pooled))


@pytest.mark.parametrize(
    ("recipe", "side"), [("crop | flip | color(0.4)", 32), ("crop | mixup(1.0)", 32), ("crop", 64)]
)
def test_a_teacher_sees_what_the_student_sees(network, data, tmp_path, recipe, side):
    """Its answers in the targets of a batch are those for the images of the batch, also in a second pass over the epochs."""
    path = _run_folder(_mean_colour(side), tmp_path, ["disc", "square"], side)
    phase = Phase(strategy="all", unfreeze=1.0, epochs=2, lr=1e-3, augment=specs.parse(recipe, "--augment"))
    run = begun(network, data, tmp_path / "student", phase, Config(teacher=path, tensorboard=False))
    setup = distilling.with_teacher(run.setup)
    load = distilling.with_teacher_answers(setup, run.network, phase, run.inputs).load
    # Neighbours, which mixup mixes, are of different classes.
    places = np.stack([np.flatnonzero(data.train.labels == label)[:6] for label in (0, 1)], 1).ravel()
    rows, labels = tf.constant(places, tf.int64), tf.constant(data.train.labels[places])
    for epoch in (0, 1, 5):
        rounds = tf.fill([12], tf.constant(epoch, tf.int64))
        images, targets = load(rounds, rows, labels)
        own, given = np.split(np.asarray(targets), 2, axis=1)
        np.testing.assert_allclose(own.sum(1), 1, atol=1e-6)
        if not run.inputs.mixed:
            expected = tf.nn.softmax(_mean_colour(side)(tf.image.resize(images, (side, side), antialias=True)))
            np.testing.assert_allclose(given, expected, atol=1e-4)
            np.testing.assert_array_equal(own.argmax(1), labels)
            continue
        # The teacher answers the images before they are mixed, and its answers are mixed by the shares of the labels.
        crop = CachedAugmentation(augment.build(phase.augment[:1]), "crop", setup.config.seed, epoch % phase.epochs)
        alone = setup.teacher.answers(setup.cache, data.train, 32, crop)[places]
        share = own[np.arange(12), np.asarray(labels)][:, None]
        np.testing.assert_allclose(given, share * alone + (1 - share) * np.roll(alone, 1, axis=0), atol=1e-5)
        assert ((share > 0.05) & (share < 0.95)).sum() > 2


def _counted(monkeypatch):
    """How many images teachers answer from now on."""
    answered, load = [], teachers.load

    def counting(*given):
        teacher = load(*given)

        def predict(batches):
            found = teacher.prefix.predict(batches)
            answered.append(len(found))
            return found

        return teacher._replace(prefix=teacher.prefix._replace(predict=predict))

    monkeypatch.setattr(teachers, "load", counting)
    return answered


PHASES = "head(epochs=2, lr=1e-2, views=2) | all(epochs=2, lr=1e-3)"


@pytest.mark.large
def test_answers_are_computed_once_and_a_stopped_run_goes_on_to_the_same_weights(
    data, tiny, run, tmp_path, monkeypatch
):
    """Both phases see the same two augmentations, one from cached features and one from images."""
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    answered, fit, steps = _counted(monkeypatch), keras.Model.fit, []
    settings = {"teacher": run, "phases": PHASES, "augment": "crop | flip", "average": "ema(momentum=0.9)"}
    settings["distill"] = "logits(temperature=3) | features(weight=0.5)"

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == limit:
                raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, Stops()], **k))
    limit = 0
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    # The projection of the features is fitted on plain images.
    assert sum(answered) == len(data.val) + 3 * len(data.train)
    noted = whole.trained.state.resolved.teacher
    assert noted["members"][0]["path"] == run and (noted["temperature"], noted["features_weight"]) == (3.0, 0.5)
    limit, folder = 3 * whole.steps_per_epoch - 1, tmp_path / "stopped"
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        trained(data, folder, tiny, **settings)
    answered.clear()
    rest = trained(data, folder, tiny, **settings)
    assert answered == []
    same(rest.weights, whole.weights)


def test_a_teacher_that_learned_test_images_is_warned_of(data, network, run, tmp_path, capsys):
    """It was tested on two of them, and had two others."""
    folder = Path(shutil.copytree(run, tmp_path / "teacher"))
    names = [f"{index}.jpg" for index in range(4)]
    digests = [hashlib.sha256(data.test.read(index)).hexdigest() for index in range(4)]
    empty = np.full(4, "")
    np.savez(folder / "manifest.npz", ids=names, parts=empty, labels=empty, digests=digests, groups=empty)
    np.savez(folder / "predictions.npz", ids=names[:2])
    (tmp_path / "run").mkdir()
    setup = train_setup.prepare(Config(teacher=str(folder)), network, data, tmp_path / "run")
    resolved = ResolvedSettings(None, network.size, "float32")
    distilling.note(distilling.with_teacher(setup), resolved)
    assert "teacher has learned 2 test images of this run" in capsys.readouterr().out
    assert resolved.teacher["members"][0]["learned_test_images"] == 2
    (folder / "manifest.npz").unlink()
    distilling.note(distilling.with_teacher(setup), resolved)
    assert "WARNING" not in capsys.readouterr().out


def test_a_teacher_that_changed_ends_a_stopped_run(data, network, run, tmp_path):
    setup = distilling.with_teacher(_setup(data, network, tmp_path, teacher=run))
    resolved = begun(
        network, data, tmp_path, Phase(strategy="all", unfreeze=1.0, epochs=1, lr=1e-3, augment=()), setup.config
    )
    resolved = resolved.state.resolved
    distilling.note(setup, resolved)
    distilling.check_unchanged(setup, resolved)
    assert 0 <= resolved.teacher["val_accuracy"] <= 1
    resolved.teacher["members"][0]["sha256"] = "0"
    with pytest.raises(UserError, match="--teacher: the teacher has changed"):
        distilling.check_unchanged(setup, resolved)


@pytest.mark.large
def test_a_taught_student_is_closer_to_its_teacher(data, network, run, tiny, tmp_path):
    """By the divergence of its answers to images that neither was trained on."""
    settings = {"phases": "all(epochs=3, lr=3e-3)", "augment": "none"}
    expected = _probabilities(network, data.test)[:, ::-1]

    def gap(name, **more):
        found = _probabilities(trained(data, tmp_path / name, tiny, **settings, **more).network, data.test)
        return (expected * np.log(np.maximum(expected, 1e-12) / found)).sum(1).mean()

    taught = gap("taught", teacher=run, distill="logits(weight=1)")
    assert taught < 0.8 * gap("untaught")


def test_taught_features_come_closer_to_those_of_the_teacher(data, network, run, tiny, tmp_path, monkeypatch):
    """By what is left of the squared difference after a phase on images, from the projection of the start."""
    built, build = [], fitting.build_loss
    monkeypatch.setattr(fitting, "build_loss", lambda run: built.append(run) or build(run))
    settings = {"phases": "all(epochs=4, lr=3e-3)", "augment": "none", "distill": "features(weight=5)"}
    made = trained(data, tmp_path, tiny, teacher=run, **settings)
    (phase,) = built
    kernel, bias, scale = phase.inputs.projection
    outputs = phase.model(data.train.images(np.arange(30)).astype(np.float32), training=False)
    expected = phase.setup.teacher.rows(phase.setup.cache, data.train, 32, feature_cache.UNAUGMENTED)[:, 2:]
    before = 1 - np.square(expected - expected.mean(0)).sum(1).mean() / scale
    left = np.square(np.asarray(outputs)[:, 2:] @ kernel + bias - expected).sum(1).mean() / scale
    assert (outputs.shape, kernel.shape, expected.shape) == ((30, 26), (24, 128), (30, 128))
    assert abs(before) < 1e-3 and left < 0.5
    assert made.network.model.output_shape == (None, 2)


@pytest.mark.large
def test_features_are_taught_to_a_network_with_the_pixel_statistics_of_the_data(data, run, tmp_path, monkeypatch):
    """Its features are NaN before it has them. A run that goes on has the same projection."""
    built, build = [], fitting.build_loss
    monkeypatch.setattr(fitting, "build_loss", lambda run: built.append(run.inputs.projection) or build(run))
    settings = {"weights": "none", "image_size": 32, "preprocessing": "dataset", "augment": "none", "teacher": run}
    settings |= {"phases": "all(epochs=2)", "distill": "features(weight=1)"}
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    fit = keras.Model.fit

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", lambda *a, callbacks, **more: fit(*a, callbacks=[*callbacks, Kill()], **more))
        with pytest.raises(KeyboardInterrupt):
            trained(data, tmp_path, "MobileNet(alpha=0.25)", **settings)
    (record,) = trained(data, tmp_path, "MobileNet(alpha=0.25)", **settings).records
    first, again = built
    assert all(np.isfinite(one).all() for one in first)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite([record.initial[0], record.final[0]]).all()


def test_features_that_are_not_finite_are_refused(data, network, tmp_path):
    model = keras.models.clone_model(network.model)
    model.get_layer("conv_1").kernel.assign(np.full(model.get_layer("conv_1").kernel.shape, np.nan))
    path = _run_folder(model, tmp_path, ["disc", "square"], 32)
    with pytest.raises(
        UserError, match=r"--distill: the features of the teacher are not finite .* Received: 'features"
    ):
        distilling.with_teacher(_setup(data, network, tmp_path, teacher=path, distill="features(weight=1)"))


@pytest.mark.parametrize(("classes", "temperature"), [(2, 1.0), (4, 1.0), (4, 3.0)])
def test_the_solved_head_learns_the_answers(classes, temperature):
    """At temperature 1, an answer is the same as an example of each class, weighted by its probability."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (80, 6)).astype(np.float32)
    labels = (features @ rng.normal(0, 2, (6, classes))).argmax(1).astype(np.int32)
    logits = features @ rng.normal(0, 1, (6, classes))
    answers = scoring.apply_activation("single_label", logits)
    soft_targets = penalised_models.SoftTargets(answers, temperature, 1.0)
    problem = linear_probe.pose(features, labels, "single_label", 0, None, soft_targets)
    found = linear_probe.solve_problem(problem, labels, classes, "single_label", 0.01)
    shares = scoring.apply_activation("single_label", features @ found.kernel + found.bias)
    if temperature > 1:
        np.testing.assert_allclose(shares, answers, atol=0.05)
        return
    copies = np.repeat(features, classes, 0), np.tile(np.arange(classes, dtype=np.int32), len(features))
    problem = linear_probe.pose(*copies, "single_label", 0, answers.ravel())
    solved = linear_probe.solve_problem(problem, copies[1], classes, "single_label", 0.01)
    expected = scoring.apply_activation("single_label", features @ solved.kernel + solved.bias)
    np.testing.assert_allclose(shares, expected, atol=2e-3)


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_labels_and_values_are_solved_too(task):
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (200, 5)).astype(np.float32)
    outputs = features @ rng.normal(0, 1, (5, 3))
    labels = rng.permutation(outputs).astype(np.float32)
    labels = (labels > 0).astype(np.float32) if task == "multi_label" else 7 + 3 * labels
    answers = scoring.apply_activation(task, outputs) if task == "multi_label" else 7 + 3 * outputs
    soft_targets = penalised_models.SoftTargets(answers, 2.0, 1.0)
    problem = linear_probe.pose(features, labels, task, 0, None, soft_targets)
    found = linear_probe.solve_problem(problem, labels, 3, task, 0.01)
    ends = features @ found.kernel + found.bias
    if task == "regression":
        ends = ends * labels.std(0) + labels.mean(0)
    np.testing.assert_allclose(scoring.apply_activation(task, ends), answers, atol=0.05)


def test_another_task_other_classes_and_layers_of_keras_are_refused(data, network, run, tiny, tmp_path):
    for task, classes, words in (
        ("multi_label", ("disc", "square"), "must be of the task multi_label"),
        ("single_label", ("disc", "star"), "it does not know star; it also knows square"),
    ):
        with pytest.raises(UserError, match=words):
            distillation.requested(Config(teacher=run), task, classes)
    with pytest.raises(UserError, match="--augment: layers of Keras"):
        trained(data, tmp_path, tiny, teacher=run, phases="all(epochs=1)", augment="RandomFlip")


@pytest.mark.large
@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_labels_and_values_are_taught_from_the_solved_head_to_the_last_phase(task, two_digits, angles, tiny, tmp_path):
    """A student of the teacher's answers alone comes closer to them than to the labels that it is not shown."""
    data = splits_of(f"csv:{two_digits if task == 'multi_label' else angles}", val=0.2, test=0.2)
    settings = {"head_init": "probe", "phases": "head | all(epochs=3, lr=1e-3)", "augment": "crop(area=(0.7, 1))"}
    large = trained(data, tmp_path / "large", tiny, **settings).network
    run = _run_folder(large.model, tmp_path / "large", list(data.classes), 32, task)
    small = trained(data, tmp_path / "small", tiny, teacher=run, distill="logits(weight=1)", **settings)
    noted, record = small.trained.state.resolved.teacher, small.records[0]
    images = data.test.images(np.arange(len(data.test))).astype(np.float32)
    answers, known = (
        scoring.apply_activation(task, np.asarray(one.model(images, training=False))) for one in (small.network, large)
    )
    scale = data.train.labels.std(0)
    apart = [np.abs((answers - other) / scale).mean() for other in (known, data.test.labels)]
    assert apart[0] < 0.7 * apart[1]
    assert noted["val_loss"] > 0 and record.final[0] < record.initial[0]
    assert ("temperature" in noted) == (task == "multi_label")


@pytest.fixture(scope="module")
def partly(data):
    """The splits without the labels of most training images."""
    kept = np.concatenate([np.flatnonzero(data.train.labels == label)[:5] for label in (0, 1)])
    others = np.setdiff1d(np.arange(len(data.train)), kept)
    first, second = (
        replace(splits.take(data.train, rows), digest=name) for rows, name in ((kept, "few"), (others, "others"))
    )
    second = replace(second, labels=np.full(len(others), -1, np.int32))
    return replace(data, train=first, unlabelled=second, digest="partly")


@pytest.mark.parametrize("recipe", ["crop | flip", "mixup(1.0)"])
def test_an_image_without_a_label_is_augmented_and_answered_like_all_others(network, partly, run, tmp_path, recipe):
    phase = Phase(strategy="all", unfreeze=1.0, epochs=2, lr=1e-3, augment=specs.parse(recipe, "--augment"))
    config = Config(teacher=run, tensorboard=False, class_weights="balanced")
    setup = distilling.with_teacher(begun(network, partly, tmp_path, phase, config).setup)
    whole = train_setup.with_unlabelled_train(setup)
    few, count = len(partly.train), len(partly.train) + len(partly.unlabelled)
    assert (len(whole.splits.train), whole.steps_per_epoch, whole.batch_size) == (count, 1, count)
    assert setup.splits is partly and whole.example_weights[few:].tolist() == [1] * (count - few)
    inputs = distilling.with_teacher_answers(
        whole, network, phase, phase_inputs.images(network, whole.splits, phase, config.seed)
    )
    rows = np.array([0, few, 1, 2, few + 1, count - 1])
    labels = whole.splits.train.labels[rows]
    given = tf.zeros(6, tf.int64), tf.constant(rows), tf.constant(labels)
    targets = np.asarray(inputs.load(*given)[1])
    own, answers, shares = targets[:, :2], targets[:, 2:4], targets[:, 4]
    # The labelled classes of an image are as much of it as is labelled.
    np.testing.assert_allclose(own.sum(1), shares, atol=1e-6)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    if inputs.mixed:
        assert ((shares > 0.01) & (shares < 0.99)).any()
    else:
        np.testing.assert_array_equal(shares, labels >= 0)
        np.testing.assert_array_equal(own.argmax(1)[labels >= 0], labels[labels >= 0])


def test_phases_learn_the_answers_for_images_without_labels(partly, data, network, run, tiny, tmp_path, capsys):
    """And choices, scores and the counts that losses weigh classes by are those of the labelled images."""
    settings = {"teacher": run, "distill": "logits(weight=1)", "augment": "none", "loss": "class_balanced"}
    settings |= {"phases": "surgical(epochs=1, lr=1e-3) | all(epochs=3, lr=3e-3)"}
    # Validation by the teacher's answers keeps what is learned of them.
    judged = _probabilities(network, data.val)[:, ::-1].argmax(1).astype(np.int32)
    partly = replace(partly, val=replace(data.val, labels=judged))
    made = trained(partly, tmp_path / "partly", tiny, **settings)
    rows = len(data.train)
    assert made.trained.state.resolved.teacher["unlabelled"] == rows - len(partly.train) == len(partly.unlabelled)
    assert made.steps_per_epoch == len(partly.train) // 8 and made.trained.state.records[1].epochs == 3
    assert len(made.trained.setup.splits.train) == len(partly.train)
    few = trained(replace(partly, unlabelled=None), tmp_path / "few", tiny, **settings)
    expected = _probabilities(network, data.train)[:, ::-1]

    def gap(run):
        found = _probabilities(run.network, data.train)
        return (expected * np.log(np.maximum(expected, 1e-12) / found)).sum(1).mean()

    assert gap(made) < gap(few)
    trained(partly, tmp_path / "solved", tiny, **settings | {"phases": "head(epochs=0)", "head_init": "probe"})
    assert "--unlabelled changes nothing" in capsys.readouterr().out


@pytest.mark.large
def test_a_stopped_run_goes_on_to_the_same_weights_with_images_without_labels(partly, tiny, run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    answered, fit, steps = _counted(monkeypatch), keras.Model.fit, []
    settings = {"teacher": run, "phases": PHASES, "augment": "crop | flip", "distill": "logits | features(weight=0.5)"}

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == limit:
                raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, Stops()], **k))
    limit, count = 0, len(partly.train) + len(partly.unlabelled)
    whole = trained(partly, tmp_path / "whole", tiny, **settings)
    # Both phases see the same two augmentations, and the projection is fitted on plain images.
    assert sum(answered) == len(partly.val) + 3 * count and len(steps) == 4 * (count // 8)
    limit = 3 * (count // 8) - 1
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        trained(partly, tmp_path / "stopped", tiny, **settings)
    answered.clear()
    rest = trained(partly, tmp_path / "stopped", tiny, **settings)
    assert answered == []
    same(rest.weights, whole.weights)


def test_a_quantile_is_not_learned_from_means(run):
    with pytest.raises(UserError, match="--loss: pinball predicts a quantile, and a teacher's values may be means"):
        distillation.requested(
            Config(teacher=run, task="regression", loss="pinball(quantile=0.9)"), "regression", ("x",)
        )
