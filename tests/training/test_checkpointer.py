"""Checkpoints of a run: a run that was killed goes on to the same weights, from wherever it was."""

import json
import os
import signal
import time

import keras
import numpy as np
import pytest
from conftest import splits_of
from training_runs import same, trained, vectors

from kerasft import strategies
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.training import callbacks, checkpointer, fitting, head_init, weight_interpolation
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_record import PhaseRecord
from kerasft.training.train_state import TrainState


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


def _at_every_step(monkeypatch):
    """Saves a checkpoint after every step, and makes each step a call of its own."""
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_weights(data, tiny, tmp_path, monkeypatch):
    """Saved at every step, broken off after some: the rest alone is run, and the weights are the same."""
    _at_every_step(monkeypatch)
    settings = {"head": "linear(dropout=0.3)", "augment": "flip | color"}
    settings["phases"] = "head(epochs=2, lr=1e-2, views=2) | all(epochs=3, lr=1e-3, batch_norm='train')"
    settings["average"] = "swa(last=0.6) | soup"
    settings["surgery"] = "activation(relu=PReLU, blend=7) | dropout(0.2)"
    steps, fit = [], keras.Model.fit

    class Counts(keras.callbacks.Callback):
        def __init__(self, limit):
            super().__init__()
            self.limit = limit

        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == self.limit:
                raise KeyboardInterrupt

    def go(folder, limit=None):
        counts = Counts(limit)
        monkeypatch.setattr(keras.Model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, counts], **k))
        return trained(data, folder, tiny, **settings)

    whole = go(tmp_path / "whole")
    total = len(steps)
    assert total == 5 * whole.steps_per_epoch
    for stop in (5, 11):  # in the second epoch of the head phase, which is cached, and of the other
        folder = tmp_path / str(stop)
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            go(folder, limit=stop)
        steps.clear()
        rest = go(folder)
        assert len(steps) == total - stop  # nothing is done twice
        same(rest.weights, whole.weights)
        for row, other in zip(rest.rows, whole.rows, strict=True):
            assert (row["step"], row["loss"]) == (other["step"], other["loss"])


@pytest.mark.large
def test_between_two_phases_a_run_goes_on_without_starting_again(data, tiny, tmp_path, monkeypatch):
    """The checkpoint after a phase holds no arrays but the variables."""
    settings = {"phases": "head(epochs=1, lr=1e-2) | all(epochs=1, lr=1e-3)", "augment": "flip"}
    settings |= {"preprocessing": "dataset", "head_init": "probe", "weights": "none", "image_size": 32}
    backbone = "MobileNet(alpha=0.25)"
    whole = trained(data, tmp_path / "whole", backbone, **settings)
    fit = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda run, *a: fit(run, *a) if run.state.phase == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(data, tmp_path / "cut", backbone, **settings)
    assert set(checkpoints.load(tmp_path / "cut")[0]) == {"variables"}
    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(head_init, "prepare", None)  # is not to be called again
    rest = trained(data, tmp_path / "cut", backbone, **settings)
    assert [row["step"] for row in rest.rows] == [row["step"] for row in whole.rows]
    same(rest.weights, whole.weights)
    np.testing.assert_array_equal(rest.trained.validation_outputs(), whole.trained.validation_outputs())


def test_a_signal_is_acted_upon_after_a_step_that_is_saved(data, tiny, tmp_path, monkeypatch):
    # A call of several steps may reach the end of so short an epoch.
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    settings = {"phases": "all(epochs=3, lr=1e-3)", "augment": "flip"}
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    ended = callbacks.PhaseCallback.on_train_batch_end

    def kill_once(self, batch, logs):
        if self.run.state.epoch == 1 and self.run.state.step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        ended(self, batch, logs)

    monkeypatch.setattr(callbacks.PhaseCallback, "on_train_batch_end", kill_once)
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "cut", tiny, **settings)
    _, values, _, _ = checkpoints.load(tmp_path / "cut")
    assert values["epoch"] == 1 and values["step"] > 0
    monkeypatch.setattr(callbacks.PhaseCallback, "on_train_batch_end", ended)
    rest = trained(data, tmp_path / "cut", tiny, **settings)
    assert [row["step"] for row in rest.rows] == [row["step"] for row in whole.rows]
    same(rest.weights, whole.weights)


def test_a_losing_phase_ends_at_a_third_and_stays_ended(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weight_interpolation, "is_losing", lambda *given: True)
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = {"phases": "all(epochs=4, lr=1e-3, stop_if_losing=True)", "augment": "none"}
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    assert [row["epoch"] for row in whole.rows] == [1, 2] and whole.records[0].epochs == 2
    assert "the phase ends here" in capsys.readouterr().out
    patient = settings | {"phases": "all(epochs=4, lr=1e-3)"}
    assert len(trained(data, tmp_path / "patient", tiny, **patient).rows) == 4
    keep_best = weight_interpolation.keep_best
    monkeypatch.setattr(weight_interpolation, "keep_best", lambda *given, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(data, tmp_path / "cut", tiny, **settings)
    monkeypatch.setattr(weight_interpolation, "keep_best", keep_best)
    rest = trained(data, tmp_path / "cut", tiny, **settings)
    assert len(rest.rows) == 2
    same(rest.weights, whole.weights)


@pytest.mark.parametrize(
    "average", ["none", "ema(momentum=0.9) | soup", pytest.param("swa(last=0.7)", marks=pytest.mark.large)]
)
def test_a_run_killed_before_its_phase_is_settled_goes_on_with_the_same_end(data, tiny, tmp_path, monkeypatch, average):
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = {"phases": "all(epochs=3, lr=1e-2, batch_norm='train')", "augment": "flip", "average": average}
    candidates, keep_best = {}, weight_interpolation.keep_best

    def noted(name, dies=False):
        def settled(model, outputs, scorer, first, found, alphas, **also):
            candidates[name] = found
            return 1 / 0 if dies else keep_best(model, outputs, scorer, first, found, alphas, **also)

        return settled

    monkeypatch.setattr(weight_interpolation, "keep_best", noted("whole"))
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    monkeypatch.setattr(weight_interpolation, "keep_best", noted("cut", dies=True))
    with pytest.raises(ZeroDivisionError):
        trained(data, tmp_path / "cut", tiny, **settings)
    monkeypatch.setattr(weight_interpolation, "keep_best", noted("rest"))
    rest = trained(data, tmp_path / "cut", tiny, **settings)
    assert [len(found) for found in candidates.values()] == [1, 1, 1]
    same(candidates["rest"][0], candidates["whole"][0])
    same(rest.weights, whole.weights)


def test_a_run_whose_checkpoints_are_damaged_is_not_started_over_silently(data, tiny, tmp_path, monkeypatch):
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "none"}
    monkeypatch.setattr(checkpointer, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(weight_interpolation, "keep_best", lambda *given, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(data, tmp_path, tiny, **settings)
    monkeypatch.undo()
    for name in checkpoints.FILE_NAMES:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(UserError, match=r"--run_dir: .*damaged.*--noresume.*Received"):
        trained(data, tmp_path, tiny, **settings)


def test_a_damaged_checkpoint_is_said_and_the_one_beside_it_is_taken(tmp_path, capsys):
    run = vectors(tmp_path)
    for epoch in (1, 2):
        run.state.epoch = epoch
        run.checkpointer.save(run.state)
    newest = max((tmp_path / name for name in checkpoints.FILE_NAMES), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    state, arrays = checkpointer.read(tmp_path, "0")
    arrays = Checkpointer(tmp_path, run.model).restore(arrays)
    assert (state.epoch, arrays) == (1, {})
    assert f"warning: {newest} is damaged" in capsys.readouterr().out


def test_the_time_of_all_starts_is_saved(tmp_path):
    run = vectors(tmp_path)
    Checkpointer(tmp_path, run.model, time.monotonic() - 100).save(run.state)
    state, _ = checkpointer.read(tmp_path, "0")
    assert state.spent == pytest.approx(100, abs=5)
    written = state.to_json()
    del written["spent"]
    assert TrainState.from_json(written).spent == 0.0


def test_a_run_that_goes_on_counts_its_earlier_starts(data, tiny, tmp_path):
    settings = {"phases": "head(epochs=1)", "augment": "none"}
    first = trained(data, tmp_path, tiny, **settings).trained
    assert first.earlier_seconds == 0
    spent = first.state.spent
    assert spent >= sum(record.seconds for record in first.state.records) > 0
    again = trained(data, tmp_path, tiny, **settings).trained
    assert again.earlier_seconds == spent and again.state.records == first.state.records


def test_changed_data_and_other_versions_are_refused(tmp_path):
    run = vectors(tmp_path)
    assert checkpointer.read(tmp_path, "0") is None
    run.checkpointer.save(run.state)
    with pytest.raises(UserError, match=r"--data: the images have changed.*--noresume. Received: digest 1, not 0"):
        checkpointer.read(tmp_path, "1")
    with pytest.raises(UserError, match=r"--run_dir: .*another version of kerasft.*--noresume.*Received: state 1"):
        TrainState.from_json({"run": "r"})


def test_the_state_is_read_back_as_it_was_written():
    record = PhaseRecord(
        "01-head", "head(epochs=0)", 1.5, 0, 2.0, "accuracy", (0.7, 0.5), (0.3, 0.9), 1.0, 1.25, 1, 4, 8, 2
    )
    resolved = ResolvedSettings(
        "none", 32, "float32", "why", phases=["all(epochs=1)"], cached={"01-head": [1, "x", "y"]}
    )
    state = TrainState(
        "r", "d", resolved, [record], 1, 2, 3, 4.5, (0.3, 0.9), None, 0.6, [0.5], True, 2, 1, 7, [{"at": 1}], 9, 11
    )
    written = json.loads(json.dumps(state.to_json()))
    assert TrainState.from_json(written) == state
    assert TrainState.from_json(written).after(record) == TrainState(
        "r", "d", resolved, [record, record], 2, history_rows=9, saves=11
    )


def test_a_resumed_run_says_where_it_goes_on():
    planned = [strategies.head(epochs=0), strategies.full(epochs=7)]
    state = TrainState("r", "0", ResolvedSettings("none", 32, "float32", ""), phase=1, epoch=2, step=1)
    assert state.position(planned) == "phase 2 of 2 (all), epoch 3 of 7, after 1 step of it"
    state.epoch, state.step = 0, 12
    assert state.position(planned) == "phase 2 of 2 (all), epoch 1 of 7, after 12 steps of it"
    state.epoch, state.step = 7, 0
    assert state.position(planned) == "phase 2 of 2 (all), after its last epoch"
    state.phase, state.epoch = 0, 0
    assert state.position(planned) == "phase 1 of 2 (head)"
    state.phase = 2
    assert state.position(planned) == "all phases are done"
