"""What a phase leaves behind: its weights, a mix, or nothing of it."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import audited
from PIL import Image

from kerasft import strategies
from kerasft.data import splits
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import network as networks
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints, feature_cache
from kerasft.strategies import planning
from kerasft.strategies.phase import Phase
from kerasft.training import autotune, callbacks, fitting, head_init, phase_inputs, weight_interpolation
from kerasft.training.train_state import TrainState
from kerasft.training.trainer import Trainer


@pytest.fixture
def ready(tmp_path):
    """A Trainer on vectors dressed as pictures, whose logits are what the pixels say times the kernel."""
    inputs = keras.Input((1, 1, 3))
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(inputs))
    network = networks.Network(keras.Model(inputs, logits), "bare", "single_label", 1, True, "zeros", (), ())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400).astype(np.int32)
    noisy = np.where(rng.random(400) < 0.2, rng.integers(0, 3, 400), labels)
    pictures = (np.eye(3, dtype=np.uint8)[noisy]).reshape(-1, 1, 1, 3)
    split = splits.Split(np.arange(400).astype(str), labels, lambda i: b"", lambda rows: pictures[rows])
    data = splits.Splits("bare", "single_label", split, split, split, ("a", "b", "c"), (), "0")
    made = Trainer(Config(), network, data, tmp_path)
    made.state = TrainState("r", "0", {"augment": "none", "speed": None})
    made.inputs = phase_inputs.pictures(network, data, Phase("all", 1.0, 1, 1e-3, augment=()), 0)
    return made


def _weights(scale):
    return [np.eye(3, dtype=np.float32) * scale, np.zeros(3, np.float32)]


def _judge(ready, first, last):
    ready.model.set_weights(first)
    ready.state.before = ready.validate()
    ready.model.set_weights(last)
    ready.state.best = None
    ready.offer(ready.validate())
    candidates = [last] if ready.state.best else []
    chosen = weight_interpolation.keep_best(
        ready.model, ready.inputs.outputs, ready.scorer, first, candidates, weight_interpolation.ALPHAS
    )
    return chosen._replace(score=chosen.score or ready.state.before)[:3]


def test_what_does_not_help_is_undone_to_the_bit(ready):
    first = _weights(2.0)
    alpha, heat, score = _judge(ready, first, [-weight for weight in _weights(3.0)])
    assert (alpha, heat) == (0.0, 1.0)
    assert score == ready.state.before
    for ours, theirs in zip(ready.model.get_weights(), first):
        np.testing.assert_array_equal(ours, theirs)


def test_what_helps_is_kept(ready):
    alpha, _, score = _judge(ready, _weights(-1.0), _weights(2.5))
    assert alpha >= 0.5
    assert score[0] < 0.7
    assert ready.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_overconfidence_is_tempered(ready):
    alpha, heat, score = _judge(ready, _weights(-40.0), _weights(40.0))
    assert alpha > 0.5
    assert heat > 4
    assert score[0] < 1
    assert ready.validate()[0] == pytest.approx(score[0], rel=1e-5)


def test_between_equals_half_way_is_taken(ready):
    better = _weights(2.5)
    half, _, _ = _judge(ready, [better[0] * 0.01, better[1]], better)  # each mix is as good at its temperature
    assert half == 0.5
    whole, _, _ = _judge(ready, [np.roll(better[0], 1, 0) * 3, better[1]], better)  # half way is measurably worse
    assert whole > 0.5
    none, _, _ = _judge(ready, better, [better[0] + np.float32(1e-3) * np.eye(3, dtype=np.float32), better[1]])
    assert none == 0


def test_the_end_of_a_phase_is_preferred_to_its_best_epoch_unless_measurably_worse(ready):
    first, good = _weights(0.0), _weights(2.5)
    lucky = [good[0] * np.float32([1.02, 1, 1]), good[1]]
    spoiled = [np.roll(good[0], 1, 0), good[1]]

    def candidate(*candidates):
        return weight_interpolation.keep_best(
            ready.model, ready.inputs.outputs, ready.scorer, first, [*candidates], weight_interpolation.ALPHAS
        ).candidate

    assert candidate(good, lucky) == candidate(lucky, good) == 0
    assert candidate(spoiled, good) == 1
    assert candidate([weight * np.nan for weight in good], good) == 1
    np.testing.assert_allclose(ready.model.get_weights()[0] / ready.model.get_weights()[0].max(), np.eye(3), atol=1e-6)


def test_a_better_temperature_alone_is_no_merit(ready):
    """The phase only scales the logits towards their best temperature: nothing that tempering could not do."""
    alpha, heat, score = _judge(ready, _weights(12.0), _weights(6.0))
    assert (alpha, heat) == (0.0, 1.0)
    assert score == ready.state.before


def test_nothing_finite_is_nothing_kept(ready):
    first = _weights(1.0)
    alpha, _, _ = _judge(ready, first, [weight * np.nan for weight in _weights(1.0)])
    assert alpha == 0
    np.testing.assert_array_equal(ready.model.get_weights()[0], first[0])


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_weights(tiny, photos, tmp_path, monkeypatch):
    """Saved at every step, broken off after some: the rest alone is run, and the weights are the same."""
    monkeypatch.setattr(callbacks, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    config = Config(
        backbone=tiny,
        batch_size=8,
        head_init="glorot_uniform",
        head="linear(dropout=0.3)",
        augment="flip | color",
        phases="head(epochs=2, lr=1e-2, views=2) | all(epochs=3, lr=1e-3, batch_norm='train')",
        tensorboard=False,
    )
    listing, pictures = audited(f"folder:{photos}")
    data = splits.make_splits(listing, pictures, 0.2, 0.2, 0)
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
        keras.utils.set_random_seed(0)
        folder.mkdir(exist_ok=True)
        made = Trainer(config, networks.build(config, 2, "single_label"), data, folder)
        counts = Counts(limit)
        monkeypatch.setattr(keras.Model, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, counts], **k))
        made.train()
        return made

    whole = go(tmp_path / "whole")
    total = len(steps)
    assert total == 5 * whole.steps
    whole_history = (tmp_path / "whole" / "history.jsonl").read_text().splitlines()
    for stop in (5, 11):  # in the second epoch of the head phase, which is cached, and of the other
        folder = tmp_path / str(stop)
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            go(folder, limit=stop)
        steps.clear()
        rest = go(folder)
        assert len(steps) == total - stop  # nothing is done twice
        for ours, theirs in zip(rest.model.get_weights(), whole.model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        history = (folder / "history.jsonl").read_text().splitlines()
        for row, other in zip(map(json.loads, history), map(json.loads, whole_history), strict=True):
            assert (row["step"], row["loss"]) == (other["step"], other["loss"])


SMALL = {"batch_size": 8, "head_init": "glorot_uniform", "tensorboard": False}


@pytest.fixture
def data(photos):
    listing, pictures = audited(f"folder:{photos}")
    return splits.make_splits(listing, pictures, 0.2, 0.2, 0)


def _trained(tiny, data, folder, **settings):
    keras.utils.set_random_seed(0)
    folder.mkdir(exist_ok=True)
    config = Config(**{"backbone": tiny, **SMALL, **settings})
    made = Trainer(config, networks.build(config, 2, "single_label"), data, folder)
    made.records = made.train()
    made.rows = [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]
    return made


def test_between_two_phases_a_run_goes_on_without_starting_again(tiny, data, tmp_path, monkeypatch):
    """The checkpoint after a phase holds no arrays but the variables."""
    phases_ = "head(epochs=1, lr=1e-2) | all(epochs=1, lr=1e-3)"
    settings = {"phases": phases_, "augment": "flip", "preprocessing": "dataset", "head_init": "probe"}
    settings |= {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32}
    whole = _trained(tiny, data, tmp_path / "whole", **settings)
    run = Trainer._run
    monkeypatch.setattr(Trainer, "_run", lambda self, index, *a: run(self, index, *a) if index == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _trained(tiny, data, tmp_path / "cut", **settings)
    monkeypatch.setattr(Trainer, "_run", run)
    monkeypatch.setattr(head_init, "prepare", None)  # is not to be called again
    rest = _trained(tiny, data, tmp_path / "cut", **settings)
    assert [row["step"] for row in rest.rows] == [row["step"] for row in whole.rows]
    for ours, theirs in zip(rest.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(rest.inputs.outputs(), whole.inputs.outputs())


def test_a_phase_that_diverges_falls_back_at_lower_rates_and_goes_on(tiny, data, tmp_path, monkeypatch, capsys):
    """The loss is made to blow up at any rate above 0.005."""
    look = callbacks.PhaseCallback._check_divergence

    def spoiled(self, logs):
        look(self, {"loss": float("nan")} if self.lr > 0.005 else logs)

    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    made = _trained(tiny, data, tmp_path / "a", phases="all(epochs=2, lr=0.04, schedule=constant)", augment="none")
    assert made.records[0]["retries"] == 2
    assert [row["lr"] for row in made.rows] == pytest.approx([0.04 * 0.09] * 2)
    assert "blew up at a rate of 0.012: back to the best weights" in capsys.readouterr().out
    assert int(made.inputs.model.optimizer.iterations) == 2 * made.steps  # of the last optimizer alone
    with pytest.raises(UserError, match=r"--phases: 01-all diverged at each of the rates 10, 3, 0.9, 0.27"):
        monkeypatch.setattr(
            callbacks.PhaseCallback, "_check_divergence", lambda self, logs: look(self, {"loss": float("nan")})
        )
        _trained(tiny, data, tmp_path / "b", phases="all(epochs=2, lr=10)", augment="none")


def test_averaged_weights_are_what_is_kept(tiny, data, tmp_path):
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "none"}
    plain = _trained(tiny, data, tmp_path / "a", **settings)
    same = _trained(tiny, data, tmp_path / "b", **settings, average="ema(momentum=1e-6)")
    averaged = _trained(tiny, data, tmp_path / "c", **settings, average="ema(momentum=0.9)")
    for row, other in zip(plain.rows, same.rows):
        assert row["val_loss"] == pytest.approx(other["val_loss"], abs=1e-5)
    assert [row["loss"] for row in plain.rows] == pytest.approx([row["loss"] for row in averaged.rows], abs=1e-5)
    assert plain.rows[-1]["val_loss"] != averaged.rows[-1]["val_loss"]


def test_patience_ends_a_phase_and_a_plateau_lowers_its_rate(tiny, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "offer", lambda self, score: False)
    losses = iter([0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6])
    monkeypatch.setattr(Scorer, "temperature", lambda self, outputs: 1.0)
    monkeypatch.setattr(weight_interpolation, "keep_best", lambda *given: weight_interpolation.UNDONE)
    judged = Trainer.score_epoch

    def score_epoch(self):
        result = judged(self)
        self.state.losses[-1] = next(losses)
        return result

    monkeypatch.setattr(Trainer, "score_epoch", score_epoch)
    made = _trained(
        tiny,
        data,
        tmp_path,
        phases="all(epochs=7, lr=1e-3, schedule=plateau(factor=0.1, patience=2))",
        augment="none",
        patience=3,
    )
    assert len(made.rows) == 5  # the best was the second
    assert [row["lr"] for row in made.rows] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-4])
    assert made.records[0]["epochs"] == 5


def test_a_signal_is_acted_upon_after_a_step_that_is_saved(tiny, data, tmp_path, monkeypatch):
    import os
    import signal

    settings = {"phases": "all(epochs=3, lr=1e-3)", "augment": "flip"}
    whole = _trained(tiny, data, tmp_path / "whole", **settings)
    candidate = callbacks.PhaseCallback.on_train_batch_end

    def kill_once(self, batch, logs):
        if self.trainer.state.epoch == 1 and self.trainer.state.step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        candidate(self, batch, logs)

    monkeypatch.setattr(callbacks.PhaseCallback, "on_train_batch_end", kill_once)
    with pytest.raises(KeyboardInterrupt):
        _trained(tiny, data, tmp_path / "cut", **settings)
    monkeypatch.setattr(callbacks.PhaseCallback, "on_train_batch_end", candidate)
    rest = _trained(tiny, data, tmp_path / "cut", **settings)
    assert [row["step"] for row in rest.rows] == [row["step"] for row in whole.rows]
    for ours, theirs in zip(rest.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


SOLVED = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32, "head_init": "probe"}


def test_a_trained_head_competes_with_the_solved_one(tiny, tmp_path, monkeypatch):
    """Not with the zero head before it: a head that is worse than the solved one is better than that."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 150)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(40):
            noise = rng.integers(low, low + 100, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "set" / name / f"{index}.png")
    listing, pictures = audited(f"folder:{tmp_path / 'set'}")
    data = splits.make_splits(listing, pictures, 0.3, 0.2, 0)
    solved = _trained(tiny, data, tmp_path / "solved", head_init="probe", phases="head")
    given, keep_best = [], weight_interpolation.keep_best

    def spoiled(model, outputs, scorer, first, candidates, alphas):
        given.append(first)
        if len(given) == 2:
            candidates = [[0.7 * zero + 0.3 * best for zero, best in zip(given[0], first, strict=True)]]
        return keep_best(model, outputs, scorer, first, candidates, alphas)

    monkeypatch.setattr(weight_interpolation, "keep_best", spoiled)
    settings = {"head_init": "probe", "phases": "head(epochs=2, lr=1e-6)", "augment": "none"}
    trained = _trained(tiny, data, tmp_path / "trained", **settings)
    assert solved.records[0]["val_after"] < 0.3
    for ours, theirs in zip(given[1][-2:], solved.model.get_weights()[-2:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    (record,) = trained.records
    assert record["val_before"] == pytest.approx(solved.records[0]["val_after"], rel=1e-3)
    assert (record["share"], record["val_after"]) == (0, record["val_before"])


def test_a_phase_begins_with_the_figure_that_the_one_before_ended_with(tiny, data, tmp_path):
    """Both are of the same weights, at the same temperature."""
    phases_ = "all(epochs=2, lr=1e-2) | all(epochs=1, lr=1e-5)"
    first, second = _trained(tiny, data, tmp_path, phases=phases_, augment="none").records
    assert second["val_before"] == pytest.approx(first["val_after"], rel=1e-3)


def test_the_best_epoch_is_the_one_of_the_lowest_printed_loss(tiny, data, tmp_path, capsys):
    made = _trained(tiny, data, tmp_path, phases="all(epochs=5, lr=0.02, batch_norm='train')", augment="none")
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line and "validation loss" in line]
    lowest = np.inf
    for line, row in zip(lines, made.rows, strict=True):
        assert f"validation loss {row['val_loss']:.4f}" in line
        assert ("the best so far" in line) == (row["val_loss"] < lowest)
        lowest = min(lowest, row["val_loss"])


def test_a_loss_that_is_no_number_is_not_the_best(ready):
    ready.config = Config(patience=2)
    ready.state.losses = [0.5, float("nan"), 0.4]
    assert not ready.out_of_patience()
    ready.state.losses = [0.5, float("nan"), 0.6]
    assert ready.out_of_patience()
    ready.state.losses = [float("nan")] * 3
    assert ready.out_of_patience()


@pytest.mark.parametrize("head_init", ["probe", "glorot_uniform"])
def test_with_hardly_a_validation_picture_nothing_follows(tiny, photos, tmp_path, capsys, head_init):
    listing, pictures = audited(f"folder:{photos}")
    data = splits.make_splits(listing, pictures, 0.2, 0.2, 0)
    one = splits.Split(data.val.ids[:1], data.val.labels[:1], data.val.read, data.val.images)
    settings = {**SOLVED, "head_init": head_init, "phases": "head(epochs=1) | all(epochs=2)", "augment": "none"}
    made = _trained(tiny, replace(data, val=one), tmp_path, **settings)
    (record,) = made.records
    assert (record["share"], record["temperature"]) == (1.0, 1.0)
    assert record["epochs"] == (head_init != "probe")
    assert np.isfinite([record["val_before"], record["val_after"]]).all()
    said = capsys.readouterr().out
    what = "the solved head" if head_init == "probe" else "'head("
    assert f"validation: 1 picture cannot judge a phase (needed: 5): {what}" in said


def test_correcting_twice_is_said(ready, tmp_path, capsys):
    for flags, said in (({"class_weights": "balanced"}, False), ({"sampling": "balanced"}, False)):
        Trainer(Config(**flags), ready.network, ready.splits, tmp_path)
        assert ("corrected twice" in capsys.readouterr().out) == said
    Trainer(Config(class_weights="balanced", sampling="balanced"), ready.network, ready.splits, tmp_path)
    assert "--class_weights=balanced and --sampling=balanced both" in capsys.readouterr().out


def test_phases_of_the_plan_hold_only_known_kinds():
    assert set(strategies.STRATEGIES) == {"head", "top", "all"}


def test_out_of_memory_a_step_is_done_in_parts_to_the_same_end(tiny, data, tmp_path, monkeypatch, capsys):
    """Calls of more than two pictures fail: eight become four parts, whose gradients are averaged."""
    import tensorflow as tf

    settings = {"phases": "all(epochs=2, lr=1e-2)", "augment": "flip", "optimizer": "sgd(momentum=0.9)"}
    whole = _trained(tiny, data, tmp_path / "whole", **settings)
    fit = keras.Model.fit

    def small(self, stream, **given):
        if stream.element_spec[0].shape[0] > 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return fit(self, stream, **given)

    monkeypatch.setattr(keras.Model, "fit", small)
    micro_batches = _trained(tiny, data, tmp_path / "parts", **settings)
    assert "out of memory; steps of 8 in parts of 2" in capsys.readouterr().out
    assert [row["step"] for row in micro_batches.rows] == [row["step"] for row in whole.rows]
    assert [row["val_loss"] for row in micro_batches.rows] == pytest.approx(
        [row["val_loss"] for row in whole.rows], rel=1e-3
    )
    for ours, theirs in zip(micro_batches.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(
        keras.Model,
        "fit",
        lambda self, stream, **given: (_ for _ in ()).throw(tf.errors.ResourceExhaustedError(None, None, "OOM")),
    )
    with pytest.raises(UserError, match=r"--batch_size: 01-all does not fit into memory, one picture at a time"):
        _trained(tiny, data, tmp_path / "none", **settings)


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [("cosine", 3, ["last"]), ("constant", 3, ["last", "best"]), ("cosine", 2, ["best"])],  # the latter by --patience
)
def test_what_a_phase_came_to(ready, schedule, epoch, expected):
    phase = Phase("all", 1.0, 3, 1e-3, schedule=specs.parse_one(schedule, "--schedule"))
    ready.best_weights, ready.last_weights = ["best"], ["last"]
    ready.state.epoch, ready.state.best = epoch, (0.5, 0.9)
    assert [candidate[0] for candidate in ready._candidates(phase)] == expected
    ready.state.best = None  # no loss was finite
    assert [candidate[0] for candidate in ready._candidates(phase)] == expected[: expected[0] == "last"]


@pytest.mark.parametrize("average", ["none", "ema(momentum=0.9)"])
def test_a_run_killed_before_its_phase_is_settled_goes_on_with_the_same_end(tiny, data, tmp_path, monkeypatch, average):
    monkeypatch.setattr(callbacks, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = {"phases": "all(epochs=3, lr=1e-2, batch_norm='train')", "augment": "flip", "average": average}
    candidates, keep_best = {}, weight_interpolation.keep_best

    def noted(name, dies=False):
        def settled(model, outputs, scorer, first, found, alphas):
            candidates[name] = found
            return 1 / 0 if dies else keep_best(model, outputs, scorer, first, found, alphas)

        return settled

    monkeypatch.setattr(weight_interpolation, "keep_best", noted("whole"))
    whole = _trained(tiny, data, tmp_path / "whole", **settings)
    monkeypatch.setattr(weight_interpolation, "keep_best", noted("cut", dies=True))
    with pytest.raises(ZeroDivisionError):
        _trained(tiny, data, tmp_path / "cut", **settings)
    monkeypatch.setattr(weight_interpolation, "keep_best", noted("rest"))
    rest = _trained(tiny, data, tmp_path / "cut", **settings)
    assert [len(found) for found in candidates.values()] == [1, 1, 1]
    for ours, theirs in zip(candidates["rest"][0], candidates["whole"][0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(rest.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_how_a_run_computes_is_settled_once_and_written_down(tiny, data, tmp_path, monkeypatch, capsys):
    asked = []

    def batch_size(config, network, phase, examples):
        asked.append((phase.kind, examples))
        return autotune.Choice(4, "measured", {32: 1.0})

    monkeypatch.setattr(autotune, "batch_size", batch_size)
    monkeypatch.setattr(
        autotune, "compiled", lambda *about: asked.append(about[2:]) or autotune.Choice("on", "measured")
    )
    monkeypatch.setattr(Trainer, "_run", lambda self, *about: self.save({}) or 1 / 0)
    settings = {"batch_size": None, "phases": "head(epochs=9) | all(epochs=2)", "augment": "none"}
    with pytest.raises(ZeroDivisionError):
        _trained(tiny, data, tmp_path, **settings)
    steps = len(data.train) // 4
    assert asked[0] == ("all", len(data.train))  # the longest that is no head alone
    assert asked[1][1:] == (4, steps * 11)
    assert "batch size: 4 (measured)" in capsys.readouterr().out
    settled = json.loads((tmp_path / "settled.json").read_text())
    assert {name: settled[name] for name in ("batch_size", "jit")} == {"batch_size": 4, "jit": "on"}
    monkeypatch.undo()
    monkeypatch.setattr(autotune, "batch_size", None)  # is not asked again
    monkeypatch.setattr(autotune, "compiled", None)
    whole = _trained(tiny, data, tmp_path, **settings)
    assert [row["step"] for row in whole.rows] == [steps * (epoch + 1) for epoch in range(11)]
    assert whole.inputs.model.jit_compile


def test_several_steps_of_a_call_come_to_the_weights_of_single_ones(tiny, data, tmp_path, monkeypatch):
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "flip", "batch_size": 4}
    one = _trained(tiny, data, tmp_path / "one", **settings)
    keep_best = Trainer._choose

    def fast(self, *about):
        self.state.settled["speed"] = 1e9  # pictures a second
        keep_best(self, *about)

    monkeypatch.setattr(Trainer, "_choose", fast)
    several = _trained(tiny, data, tmp_path / "several", **settings)
    assert one.inputs.model.steps_per_execution == 1
    assert several.inputs.model.steps_per_execution == several.steps > 1
    for ours, theirs in zip(several.model.get_weights(), one.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_phase_that_falls_back_in_its_middle_goes_on_in_its_schedule_and_its_averages(
    tiny, data, tmp_path, monkeypatch
):
    """Diverges in the third epoch. The optimizer begins anew; its rate and its averages do not."""
    scorer, seen = Trainer.score_epoch, []

    def noted(self):
        if self.state.lr_backoffs:
            seen.append(int(self.inputs.model.optimizer.iterations))
        return scorer(self)

    def spoiled(self, logs):
        if self.trainer.state.epoch == 2 and not self.trainer.state.lr_backoffs:
            self.diverged = self.model.stop_training = True

    monkeypatch.setattr(Trainer, "score_epoch", noted)
    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    settings = {"phases": "all(epochs=4, lr=1e-3, schedule=linear(warmup=0))", "augment": "none"}
    made = _trained(tiny, data, tmp_path, **settings, average="ema(momentum=0.98)")
    assert seen == [made.steps, 2 * made.steps]
    assert [row["lr"] for row in made.rows] == pytest.approx([7.5e-4, 5e-4, 0.3 * 2.5e-4, 0], abs=1e-9)
    before, after = made.rows[1]["val_loss"], made.rows[2]["val_loss"]
    assert after == pytest.approx(before, rel=0.05)  # averages of zeros would be far off


def test_a_plateaus_rate_stays_low_after_a_fallback(tiny, data, tmp_path, monkeypatch):
    compiled = fitting._compile
    rates = []

    def noted(*given):
        result = compiled(*given)
        rates.append(float(given[0].inputs.model.optimizer.learning_rate))
        return result

    def spoiled(self, logs):
        if self.trainer.state.epoch == 2 and not self.trainer.state.lr_backoffs:
            self.trainer.state.losses[:] = [1.0, 2.0]
            self.diverged = self.model.stop_training = True

    monkeypatch.setattr(fitting, "_compile", noted)
    monkeypatch.setattr(callbacks.PhaseCallback, "_check_divergence", spoiled)
    plateau = "all(epochs=3, lr=1e-3, schedule=plateau(factor=0.1, patience=1))"
    _trained(tiny, data, tmp_path, phases=plateau, augment="none")
    assert rates == pytest.approx([1e-3, 0.3 * 1e-4])


def test_activations_that_float16_does_not_hold_are_computed_again_in_float32(
    tiny, data, tmp_path, monkeypatch, capsys
):
    """The batch that the plan looks at fits, another picture does not."""
    settings = {"phases": "head(epochs=1, lr=1e-2, views=1)", "augment": "none"}
    whole = _trained(tiny, data, tmp_path / "whole", **settings)
    plan, holds = phase_inputs.plan, feature_cache.can_store

    def halved(*given, halved=True):
        found = plan(*given, halved=halved)
        return found._replace(dtype="float16") if halved else found

    monkeypatch.setattr(phase_inputs, "plan", halved)
    monkeypatch.setattr(feature_cache, "can_store", lambda values, dtype: holds(values * 1e6, dtype))
    made = _trained(tiny, data, tmp_path / "a", **settings)
    assert "01-head: float16 cannot store its activations" in capsys.readouterr().out
    assert made.state.settled["cached"]["01-head"][:2] == [1, "float32"]
    for ours, theirs in zip(made.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_whose_checkpoints_are_damaged_is_not_started_over_silently(tiny, data, tmp_path, monkeypatch, capsys):
    settings = {"phases": "all(epochs=2, lr=1e-3)", "augment": "none"}
    monkeypatch.setattr(callbacks, "MAX_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(weight_interpolation, "keep_best", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _trained(tiny, data, tmp_path, **settings)
    monkeypatch.undo()
    for name in checkpoints.FILE_NAMES:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(UserError, match=r"--run_dir: .*damaged.*--noresume.*Received"):
        _trained(tiny, data, tmp_path, **settings)


def test_a_resumed_run_says_where_it_goes_on():
    planned = [strategies.head(epochs=0), strategies.full(epochs=7)]
    state = TrainState("r", "0", {}, phase=1, epoch=2, step=1)
    assert state.place(planned) == "phase 2 of 2 (all), epoch 3 of 7, after 1 step of it"
    state.epoch, state.step = 0, 12
    assert state.place(planned) == "phase 2 of 2 (all), epoch 1 of 7, after 12 steps of it"
    state.epoch, state.step = 7, 0
    assert state.place(planned) == "phase 2 of 2 (all), after its last epoch"
    state.phase, state.epoch = 0, 0
    assert state.place(planned) == "phase 1 of 2 (head)"
    state.phase = 2
    assert state.place(planned) == "all phases are done"


def test_a_resumed_run_takes_its_phases_from_what_was_settled(tiny, data, tmp_path, monkeypatch):
    settings = {"phases": "all(epochs=1, lr=1e-3, optimizer=sgd)", "augment": "flip"}
    run = Trainer._run
    monkeypatch.setattr(Trainer, "_run", lambda self, *about: self.save({}) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _trained(tiny, data, tmp_path, **settings)
    monkeypatch.setattr(Trainer, "_run", run)
    plan = planning.plan
    other = specs.parse_one("lion", "--optimizer")
    changed = lambda *given: ([replace(phase, optimizer=other) for phase in plan(*given)[0]], "")  # noqa: E731
    monkeypatch.setattr(planning, "plan", changed)  # as another version's rule might choose
    made = _trained(tiny, data, tmp_path, **settings)
    expected = "all(epochs=1, lr=0.001, optimizer=sgd, schedule=cosine, loss=auto, augment=flip)"
    assert [record["spec"] for record in made.records] == [expected]
    assert json.loads((tmp_path / "settled.json").read_text())["phases"] == [expected]
