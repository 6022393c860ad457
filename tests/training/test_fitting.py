"""The fit of a phase: what it does where it diverges or does not fit into memory, and how many steps a call does."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import splits_of
from training_runs import trained, vectors, watched

from kerasft.evaluation.scoring import Scorer
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.training import callbacks, fitting, head_init, weight_interpolation
from kerasft.training.phase_run import PhaseRun


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


def test_a_phase_that_diverges_falls_back_at_lower_rates_and_goes_on(data, tiny, tmp_path, monkeypatch, capsys):
    """The loss is made to blow up at any rate above 0.005."""
    look, runs = callbacks.PhaseCallback._check_divergence, watched(monkeypatch)

    def spoiled(self, logs):
        look(self, {"loss": float("nan")} if self.lr > 0.005 else logs)

    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    settings = {"phases": "all(epochs=2, lr=0.04, schedule=constant)", "augment": "none"}
    made = trained(data, tmp_path / "a", tiny, **settings)
    assert made.records[0].lr_backoffs == made.records[0].to_json()["retries"] == 2
    assert [row["lr"] for row in made.rows] == pytest.approx([0.04 * 0.09] * 2)
    assert "blew up at a rate of 0.012: back to the best weights" in capsys.readouterr().out
    # Of the last optimizer alone.
    assert int(runs[0].model.optimizer.iterations) == 2 * made.steps_per_epoch
    monkeypatch.setattr(
        callbacks.PhaseCallback, "_check_divergence", lambda self, logs: look(self, {"loss": float("nan")})
    )
    with pytest.raises(UserError, match=r"--phases: 01-all diverged at each of the rates 10, 3, 0.9, 0.27"):
        trained(data, tmp_path / "b", tiny, phases="all(epochs=2, lr=10)", augment="none")


def test_a_rate_that_is_far_too_high_is_noticed_by_itself(data, tiny, tmp_path, monkeypatch, capsys):
    """Nothing is made to fail here: plain gradient descent at a rate of 10 does so by itself.

    Each step is a call of its own, as on a slow machine: the loss of a call of several is their mean.
    """
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    settings = {"optimizer": "sgd(momentum=0.9)", "augment": "none", "batch_size": 4}
    made = trained(data, tmp_path, tiny, **settings, phases="all(epochs=3, lr=10, schedule=constant)", average="none")
    assert made.records[0].lr_backoffs >= 1
    assert "the loss blew up at a rate of 10: back to the best weights" in capsys.readouterr().out
    assert all(np.isfinite(weight).all() for weight in made.weights)


def test_averaged_weights_are_what_is_kept(data, tiny, tmp_path):
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "none"}
    plain = trained(data, tmp_path / "a", tiny, **settings)
    alike = trained(data, tmp_path / "b", tiny, **settings, average="ema(momentum=1e-6)")
    averaged = trained(data, tmp_path / "c", tiny, **settings, average="ema(momentum=0.9)")
    for row, other in zip(plain.rows, alike.rows, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    assert [row["loss"] for row in plain.rows] == pytest.approx([row["loss"] for row in averaged.rows], abs=1e-5)
    assert plain.rows[-1]["val_loss"] != averaged.rows[-1]["val_loss"]


def test_patience_ends_a_phase_and_a_plateau_lowers_its_rate(data, tiny, tmp_path, monkeypatch):
    losses = iter([0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6])
    monkeypatch.setattr(Scorer, "temperature", lambda self, outputs: 1.0)
    monkeypatch.setattr(weight_interpolation, "keep_best", lambda *given, **_: weight_interpolation.UNDONE)
    score_epoch = PhaseRun.score_epoch

    def scored(self):
        result = score_epoch(self)
        self.state.losses[-1] = next(losses)
        return result

    monkeypatch.setattr(PhaseRun, "score_epoch", scored)
    phase = "all(epochs=7, lr=1e-3, schedule=plateau(factor=0.1, patience=2))"
    made = trained(data, tmp_path, tiny, phases=phase, augment="none", patience=3)
    assert len(made.rows) == 5  # the best was the second
    assert [row["lr"] for row in made.rows] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-4])
    assert made.records[0].epochs == 5


def test_out_of_memory_a_step_is_done_in_parts_to_the_same_end(data, tiny, tmp_path, monkeypatch, capsys):
    """Calls of more than two images fail: eight become four parts, whose gradients are averaged."""
    settings = {"phases": "all(epochs=2, lr=1e-2)", "augment": "flip", "optimizer": "sgd(momentum=0.9)"}
    settings["average"] = "swa(last=0.6)"
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    fit = keras.Model.fit

    def small(self, stream, **given):
        if stream.element_spec[0].shape[0] > 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return fit(self, stream, **given)

    monkeypatch.setattr(keras.Model, "fit", small)
    parts = trained(data, tmp_path / "parts", tiny, **settings)
    assert "out of memory; steps of 8 in parts of 2" in capsys.readouterr().out
    assert [row["step"] for row in parts.rows] == [row["step"] for row in whole.rows]
    assert [row["val_loss"] for row in parts.rows] == pytest.approx([row["val_loss"] for row in whole.rows], rel=1e-3)
    for ours, theirs in zip(parts.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)

    def none_fits(self, stream, **given):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(keras.Model, "fit", none_fits)
    with pytest.raises(UserError, match=r"--batch_size: 01-all does not fit into memory, one image at a time"):
        trained(data, tmp_path / "none", tiny, **settings)


def test_several_steps_of_a_call_come_to_the_weights_of_single_ones(data, tiny, tmp_path, monkeypatch):
    runs = watched(monkeypatch)
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "flip", "batch_size": 4}
    prepare = head_init.prepare

    def trained_at(speed, name):
        """As if the forward pass did so many images a second."""
        monkeypatch.setattr(head_init, "prepare", lambda *given, **more: prepare(*given, **more)._replace(speed=speed))
        return trained(data, tmp_path / name, tiny, **settings)

    one, several = trained_at(1.0, "one"), trained_at(1e9, "several")
    assert runs[0].model.steps_per_execution == 1
    assert runs[1].model.steps_per_execution == several.steps_per_epoch > 1
    for ours, theirs in zip(several.weights, one.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("average", ["ema(momentum=0.98)", "swa(last=0.7) | soup"])
def test_a_phase_that_falls_back_in_its_middle_goes_on_in_its_schedule_and_its_averages(
    data, tiny, tmp_path, monkeypatch, average
):
    """Diverges in the third epoch. The optimizer begins anew; its rate and its averages do not."""
    score_epoch, seen = PhaseRun.score_epoch, []

    def noted(self):
        if self.state.lr_backoffs:
            seen.append(int(self.model.optimizer.iterations))
        return score_epoch(self)

    def spoiled(self, logs):
        if self.run.state.epoch == 2 and not self.run.state.lr_backoffs:
            self.diverged = self.model.stop_training = True

    monkeypatch.setattr(PhaseRun, "score_epoch", noted)
    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    settings = {"phases": "all(epochs=4, lr=1e-3, schedule=linear(warmup=0))", "augment": "none"}
    made = trained(data, tmp_path, tiny, **settings, average=average)
    assert seen == [made.steps_per_epoch, 2 * made.steps_per_epoch]
    assert [row["lr"] for row in made.rows] == pytest.approx([7.5e-4, 5e-4, 0.3 * 2.5e-4, 0], abs=1e-9)
    before, after = made.rows[1]["val_loss"], made.rows[2]["val_loss"]
    assert after == pytest.approx(before, rel=0.05)  # averages of zeros would be far off


def test_a_plateaus_rate_stays_low_after_a_fallback(data, tiny, tmp_path, monkeypatch):
    fit, rates = keras.Model.fit, []

    def noted(self, *given, **more):
        rates.append(float(self.optimizer.learning_rate))
        return fit(self, *given, **more)

    def spoiled(self, logs):
        if self.run.state.epoch == 2 and not self.run.state.lr_backoffs:
            self.run.state.losses[:] = [1.0, 2.0]
            self.diverged = self.model.stop_training = True

    monkeypatch.setattr(keras.Model, "fit", noted)
    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    plateau = "all(epochs=3, lr=1e-3, schedule=plateau(factor=0.1, patience=1))"
    trained(data, tmp_path, tiny, phases=plateau, augment="none")
    assert rates == pytest.approx([1e-3, 0.3 * 1e-4])


def test_a_loss_that_weighs_classes_is_given_their_training_examples(tmp_path):
    run = vectors(tmp_path)
    labels = run.setup.splits.train.labels
    kept = np.concatenate([np.flatnonzero(labels == 0)[:5], np.flatnonzero(labels == 1)[:50]])
    train = replace(run.setup.splits.train, labels=labels[kept])
    run.setup = replace(run.setup, splits=replace(run.setup.splits, train=train))
    run.phase = replace(run.phase, loss=specs.parse_one("class_balanced(beta=0.9)", "--loss"), optimizer=Spec("sgd"))
    run.phase = replace(run.phase, schedule=Spec("constant"))
    fitting._compile(run, None)
    found = np.asarray(run.model.loss(np.array([0, 1, 2], np.int32), np.zeros((3, 3), np.float32))) / np.log(3)
    weights = 1 / (1 - 0.9 ** np.array([5, 50]))
    np.testing.assert_allclose(found, [*2 * weights / weights.sum(), 0], rtol=1e-5)


def test_the_rest_of_an_epoch_is_too_short_to_measure_feeding(tmp_path, monkeypatch):
    run, callback = vectors(tmp_path), SimpleNamespace(times_input=True, input_speed=None)
    per_epoch = run.setup.steps_per_epoch
    monkeypatch.setattr(fitting, "MIN_STEPS_TO_TIME_INPUT", per_epoch)
    monkeypatch.setattr(fitting, "_input_speed", lambda *given: 100.0)
    monkeypatch.setattr(keras.Model, "fit", lambda self, stream, **given: None)
    run.state.step = per_epoch - 2
    fitting._fit_epochs(run, 1, callback, [])
    assert (callback.times_input, callback.input_speed) == (True, None)
    run.state.epoch, run.state.step = 1, 0
    fitting._fit_epochs(run, 2, callback, [])
    assert (callback.times_input, callback.input_speed) == (False, 100.0)


def test_classes_in_an_order_are_told(data, tiny, tmp_path, capsys):
    made = trained(data, tmp_path, tiny, phases="all(epochs=1, lr=1e-3, loss=ordinal)", augment="none", patience=1)
    assert f"01-all: the ordinal loss takes the classes for {' < '.join(data.classes)}" in capsys.readouterr().out
    assert np.isfinite(made.rows[0]["loss"])


def test_a_quantile_is_learned_and_judged_by_its_own_loss(tiny, tmp_path):
    """Targets that no image tells: what is left to learn is their quantile."""
    rng = np.random.default_rng(0)
    run = vectors(tmp_path / "v")
    numbers = rng.exponential(1.0, (400, 1)).astype(np.float32)
    split = replace(run.setup.splits.train, labels=numbers)
    data = replace(run.setup.splits, task="regression", train=split, val=split, test=split, classes=("x",))
    size = {"image_size": 32, "augment": "none", "loss": "pinball(0.9)", "batch_size": 50, "head_init": "zeros"}
    split = replace(split, images=lambda rows: np.zeros((len(rows), 32, 32, 3), np.uint8))
    data = replace(data, train=split, val=split, test=split)
    phases = "head(epochs=30, lr=0.1, optimizer=sgd(momentum=0.9), schedule=cosine)"
    made = trained(data, tmp_path / "run", tiny, **size, phases=phases)
    (record,), scorer = made.records, made.trained.setup.scorer
    assert record.alpha == 1
    values = made.trained.validation_outputs()
    assert (scorer.error, scorer.quantile) == ("pinball", 0.9)
    assert float((numbers <= values).mean()) == pytest.approx(0.9, abs=0.03)
    assert record.final[0] == pytest.approx(scorer.loss(np.full((400, 1), np.quantile(numbers, 0.9))), rel=0.01)
    # A phase that gains nothing is not undone, for the solved head before it is the mean.
    phases = "head | top(0.1, epochs=1, lr=1e-6) | top(0.1, epochs=1, lr=1e-6)"
    solved = trained(data, tmp_path / "solved", tiny, **{**size, "head_init": "probe"}, phases=phases)
    assert [record.alpha > 0 for record in solved.records] == [True, True, False]
