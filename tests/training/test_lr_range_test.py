"""The range test: what it reads from losses, and what it leaves of a phase."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_runs import same, vectors

from kerasft.settings.spec import Spec
from kerasft.training import lr_range_test
from kerasft.training.lr_range_test import STEPS, read

RATES = [lr_range_test.rate(step) for step in range(STEPS)]


def _losses(fall, falls_at=1e-3, rises_at=0.1, noise=0.02):
    """2 at low rates, less by `fall` around one rate, and blowing up at another."""
    place = np.log10(RATES)
    curve = 2 - fall / (1 + np.exp(-6 * (place - math.log10(falls_at)))) + np.exp(8 * (place - math.log10(rises_at)))
    return (curve + np.random.default_rng(0).normal(0, noise, STEPS)).tolist()


def test_rates_rise_by_one_factor():
    assert (RATES[0], RATES[-1]) == pytest.approx((1e-6, 1))
    np.testing.assert_allclose(np.diff(np.log(RATES)), math.log(1e6) / 99)


@pytest.mark.parametrize("falls_at", [1e-4, 1e-3])
def test_a_loss_that_falls_suggests_the_middle_of_its_descent(falls_at):
    found = read(RATES, _losses(1.0, falls_at, rises_at=30 * falls_at))
    assert found.suggestion == found.middle
    assert falls_at / 4 < found.middle < falls_at * 4
    assert falls_at / 2 < found.steepest < falls_at * 2
    assert found.steepest < found.harmless < 60 * falls_at


def test_where_the_loss_does_not_fall_a_tenth_of_what_is_harmless_is_suggested():
    found = read(RATES, _losses(0.0, rises_at=0.01))
    assert found.middle is None and found.steepest is None
    assert 1e-3 < found.harmless < 0.01
    assert found.suggestion == pytest.approx(found.harmless / 10)


@pytest.mark.parametrize("losses", [[2.0], [2.0, math.nan], [2.0] * 8, [math.nan], [2.0, *np.geomspace(2, 2e9, 30)]])
def test_too_few_losses_or_none_that_stay_low_suggest_nothing(losses):
    found = read(RATES[: len(losses)], losses)
    assert found.suggestion is None
    json.dumps(found.to_json(), allow_nan=False)


def test_losses_that_end_in_none_are_read_and_written():
    losses = [*_losses(1.0)[:80], math.inf, math.nan]
    found = read(RATES[:82], losses)
    assert found.middle is not None
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["losses"][-2:] == [None, None] and written["losses"][:80] == losses[:80]


def _phase(folder, **changes):
    keras.utils.set_random_seed(0)
    run = vectors(folder)
    given = {"optimizer": Spec("sgd"), "schedule": Spec("cosine"), "loss": Spec("auto"), **changes}
    for name, value in given.items():
        object.__setattr__(run.phase, name, value)
    return run


def test_a_phase_is_trained_at_rising_rates_and_left_as_it_was(tmp_path, monkeypatch):
    run, seen = _phase(tmp_path), []
    before = [weight.copy() for weight in run.model.get_weights()]
    end = lr_range_test._Rising.on_train_batch_end

    def noted(self, batch, logs):
        seen.append((float(self.model.optimizer.learning_rate), self.model.get_weights()))
        end(self, batch, logs)

    monkeypatch.setattr(lr_range_test._Rising, "on_train_batch_end", noted)
    found = lr_range_test.measure(run)
    np.testing.assert_allclose([rate for rate, _ in seen], RATES, rtol=1e-5)
    same(run.model.get_weights(), before)
    assert not np.array_equal(seen[-1][1][0], before[0])
    # Each loss is that of its own batch, at the weights before the step.
    batches = list(run.stream(0, STEPS))
    fresh = vectors(tmp_path).model
    for step in (0, 50, 99):
        fresh.set_weights(seen[step - 1][1] if step else before)
        images, labels = batches[step]
        expected = keras.losses.sparse_categorical_crossentropy(labels, fresh(images), from_logits=True)
        assert found.losses[step] == pytest.approx(float(np.mean(expected)), rel=1e-4)


def test_a_step_that_does_not_fit_is_done_in_parts_at_one_rate(tmp_path, monkeypatch, capsys):
    whole = lr_range_test.measure(_phase(tmp_path))
    fit = keras.Model.fit

    def small(self, stream, **given):
        if stream.element_spec[0].shape[0] > 16:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return fit(self, stream, **given)

    monkeypatch.setattr(keras.Model, "fit", small)
    parts = lr_range_test.measure(_phase(tmp_path))
    assert "in parts of 16" in capsys.readouterr().out
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-3)


def test_the_test_ends_where_the_loss_blows_up(tmp_path, monkeypatch):
    """At the first step whose smoothed loss is above 4 times its lowest: rates go up to 1e6 here."""
    run = _phase(
        tmp_path, optimizer=Spec("sgd", (), {"momentum": 0.9, "clipvalue": 1e9}), loss=Spec("CategoricalHinge")
    )
    run.model.layers[-1].bias.assign([1e3, 0, 0])
    monkeypatch.setattr(lr_range_test, "LAST_RATE", 1e6)
    found = lr_range_test.measure(run)
    assert len(found.losses) < STEPS
    kept = lr_range_test.MOMENTUM
    average, lowest = 0.0, math.inf
    for step, loss in enumerate(found.losses):
        average = kept * average + (1 - kept) * loss
        smoothed = average / (1 - kept ** (step + 1))
        lowest = min(lowest, smoothed)
        assert (smoothed > 4 * lowest) == (step == len(found.losses) - 1)
