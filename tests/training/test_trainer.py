"""A whole run through the front door: what is resolved and written down, how its phases follow, what each leaves."""

import json
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from conftest import splits_of
from training_runs import easy, same, trained, vectors, watched

from kerasft.data.splits import Split
from kerasft.networks import eight_bits, layer_names
from kerasft.networks import network as networks
from kerasft.probes import depth_choice
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import feature_cache
from kerasft.strategies import auto, caching, planning
from kerasft.training import autotune, domain_shift, fitting, phase_inputs, soup, train_setup, weight_interpolation


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


SOLVED = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32}


def _stopped(data, folder, backbone, monkeypatch, **settings):
    """Starts a run that is stopped as its first phase begins, with a checkpoint of its state."""

    def stops(run, *states):
        run.checkpointer.save(run.state, {"initial": run.initial, "best": run.best})
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", stops)
        with pytest.raises(ZeroDivisionError):
            trained(data, folder, backbone, **settings)


def test_a_trained_head_competes_with_the_solved_one(tiny, tmp_path, monkeypatch):
    """Not with the zero head before it: a head that is worse than the solved one is better than that."""
    images = easy(tmp_path / "set")
    solved = trained(images, tmp_path / "solved", tiny, head_init="probe", phases="head")
    given, keep_best = [], weight_interpolation.keep_best

    def spoiled(model, outputs, scorer, first, candidates, alphas, **also):
        given.append(first)
        if len(given) == 2:
            candidates = [[0.7 * zero + 0.3 * best for zero, best in zip(given[0], first, strict=True)]]
        return keep_best(model, outputs, scorer, first, candidates, alphas, **also)

    monkeypatch.setattr(weight_interpolation, "keep_best", spoiled)
    settings = {"head_init": "probe", "phases": "head(epochs=2, lr=1e-6)", "augment": "none"}
    made = trained(images, tmp_path / "trained", tiny, **settings)
    assert solved.records[0].final[0] < 0.3
    for ours, theirs in zip(given[1][-2:], solved.weights[-2:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    (record,) = made.records
    assert record.initial[0] == pytest.approx(solved.records[0].final[0], rel=1e-3)
    assert (record.alpha, record.final) == (0, record.initial)


def test_a_phase_begins_with_the_figure_that_the_one_before_ended_with(data, tiny, tmp_path):
    """Both are of the same weights, at the same temperature."""
    phases = "all(epochs=2, lr=1e-2) | all(epochs=1, lr=1e-5)"
    first, second = trained(data, tmp_path, tiny, phases=phases, augment="none").records
    assert second.initial[0] == pytest.approx(first.final[0], rel=1e-3)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_best_epoch_is_named_where_it_may_be_kept(data, tiny, tmp_path, capsys, schedule):
    """It is the one of the lowest printed loss. Where the rate has decayed, the last epoch is what is kept."""
    phases = f"all(epochs=5, lr=0.02, batch_norm='train', schedule={schedule})"
    made = trained(data, tmp_path, tiny, phases=phases, augment="none")
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line and "validation loss" in line]
    lowest = np.inf
    for line, row in zip(lines, made.rows, strict=True):
        assert f"validation loss {row['val_loss']:.4f}" in line
        assert ("the lowest loss so far" in line) == (schedule == "constant" and row["val_loss"] < lowest)
        lowest = min(lowest, row["val_loss"])


@pytest.mark.parametrize("head_init", ["probe", "glorot_uniform"])
def test_with_hardly_a_validation_image_nothing_follows(data, tmp_path, capsys, head_init):
    one = Split(data.val.ids[:1], data.val.labels[:1], data.val.read, data.val.images)
    settings = {**SOLVED, "head_init": head_init, "phases": "head(epochs=1) | all(epochs=2)", "augment": "none"}
    (record,) = trained(replace(data, val=one), tmp_path, **settings).records
    assert (record.alpha, record.temperature) == (1.0, 1.0)
    assert record.epochs == (head_init != "probe")
    assert np.isfinite([record.initial[0], record.final[0]]).all()
    said = capsys.readouterr().out
    what = "the solved head" if head_init == "probe" else "'head("
    assert f"validation: 1 image cannot judge a phase (needed: 5): {what}" in said
    dropped = json.loads((tmp_path / "settled.json").read_text())["dropped_phases"]
    assert [text.partition("(")[0] for text in dropped] == ["head", "all"][head_init != "probe" :]


def test_a_quantile_that_few_validation_images_leave_unlearned_is_refused(tiny, tmp_path, monkeypatch):
    """Before the probe: what would be left is its solution, a mean, or a head of zeros."""
    monkeypatch.setattr(depth_choice, "choose", lambda *given: pytest.fail("far enough"))
    known, flags = vectors(tmp_path / "v").setup.splits, {"loss": "pinball(0.9)", "head_init": "probe"}
    numbers = np.random.default_rng(0).exponential(1.0, (400, 1)).astype(np.float32)
    flags |= {"augment": "none", "phases": "head(epochs=9) | all(epochs=9)"}

    def begin(count, **settings):
        few = replace(known.val, ids=known.val.ids[:count], labels=numbers[:count])
        train = replace(known.train, labels=numbers)
        data = replace(known, task="regression", train=train, val=few, test=few, classes=("x",))
        trained(data, tmp_path / "run", tiny, **{**flags, **settings})

    for settings in ({}, {"head_init": "zeros", "phases": "head(epochs=0) | all(epochs=9)"}):
        with pytest.raises(
            UserError, match="--loss: a quantile needs a phase with epochs, which needs 5 validation im"
        ):
            begin(4, **settings)
    for count, settings in ((5, {}), (4, {"loss": "mse"}), (4, {"head_init": "zeros"})):
        with pytest.raises(pytest.fail.Exception, match="far enough"):
            begin(count, **settings)


def test_correcting_twice_is_said(tmp_path, capsys):
    known = vectors(tmp_path).setup
    for flags in ({"class_weights": "balanced"}, {"sampling": "balanced"}):
        train_setup.prepare(Config(**flags), known.network, known.splits, tmp_path)
        assert "corrected twice" not in capsys.readouterr().out
    train_setup.prepare(Config(class_weights="balanced", sampling="balanced"), known.network, known.splits, tmp_path)
    said = capsys.readouterr().out
    assert "--class_weights=balanced and --sampling=balanced each" in said and "corrected more than once" in said


def test_how_a_run_computes_is_settled_once_and_written_down(data, tiny, tmp_path, monkeypatch, capsys):
    asked = []

    def batch_size(config, network, phase, examples):
        asked.append((phase.strategy, examples))
        return autotune.MeasuredChoice(4, "measured", {32: 1.0})

    def compiled(config, network, phase, batch, steps):
        asked.append((phase.strategy, batch, steps))
        return autotune.MeasuredChoice("on", "measured")

    settings = {"batch_size": None, "phases": "head(epochs=9) | all(epochs=2)", "augment": "none"}
    with monkeypatch.context() as patch:
        patch.setattr(autotune, "batch_size", batch_size)
        patch.setattr(autotune, "compiled", compiled)
        _stopped(data, tmp_path, tiny, patch, **settings)
    steps = len(data.train) // 4
    # Nothing is asked for a head alone.
    assert asked == [("all", len(data.train)), ("all", 4, steps * 2)]
    assert "batch size: 4 (measured)" in capsys.readouterr().out
    settled = json.loads((tmp_path / "settled.json").read_text())
    assert {name: settled[name] for name in ("batch_size", "jit")} == {"batch_size": 4, "jit": "on"}
    # Neither is asked again.
    monkeypatch.setattr(autotune, "batch_size", None)
    monkeypatch.setattr(autotune, "compiled", None)
    runs = watched(monkeypatch)
    whole = trained(data, tmp_path, tiny, **settings)
    assert [row["step"] for row in whole.rows] == [steps * (epoch + 1) for epoch in range(11)]
    assert [run.model.jit_compile for run in runs] == [True, True]


def test_activations_that_float16_does_not_hold_are_computed_again_in_float32(
    data, tiny, tmp_path, monkeypatch, capsys
):
    """The batch that the plan looks at fits, another image does not."""
    settings = {"phases": "head(epochs=1, lr=1e-2, views=1)", "augment": "none"}
    whole = trained(data, tmp_path / "whole", tiny, **settings)
    plan, holds = phase_inputs.plan, feature_cache.can_store

    def halved(*given, halved=True):
        found = plan(*given, halved=halved)
        return found._replace(dtype="float16") if halved else found

    monkeypatch.setattr(phase_inputs, "plan", halved)
    monkeypatch.setattr(feature_cache, "can_store", lambda values, dtype: holds(values * 1e6, dtype))
    made = trained(data, tmp_path / "a", tiny, **settings)
    assert "01-head: float16 cannot store its activations" in capsys.readouterr().out
    assert made.trained.state.resolved.cached["01-head"][:2] == [1, "float32"]
    assert json.loads((tmp_path / "a" / "settled.json").read_text())["cached"]["01-head"][:2] == [1, "float32"]
    same(made.weights, whole.weights)


def test_a_resumed_run_takes_its_phases_from_what_was_settled(data, tiny, tmp_path, monkeypatch):
    settings = {"phases": "all(epochs=1, lr=1e-3, optimizer=sgd)", "augment": "flip"}
    _stopped(data, tmp_path, tiny, monkeypatch, **settings)
    plan = planning.plan
    other = specs.parse_one("lion", "--optimizer")
    changed = lambda *given: ([replace(phase, optimizer=other) for phase in plan(*given)[0]], "")  # noqa: E731
    monkeypatch.setattr(planning, "plan", changed)  # as another version's rule might choose
    made = trained(data, tmp_path, tiny, **settings)
    expected = "all(epochs=1, lr=0.001, optimizer=sgd, schedule=cosine, loss=auto, augment=flip)"
    assert [record.spec for record in made.records] == [expected]
    assert json.loads((tmp_path / "settled.json").read_text())["phases"] == [expected]


@pytest.mark.parametrize("enough", [True, False])
def test_a_conditional_phase_follows_where_the_one_before_gained_enough(
    data, tiny, tmp_path, monkeypatch, capsys, enough
):
    asked = []
    monkeypatch.setattr(auto, "gained_enough", lambda *given: asked.append(given) or enough)
    phases = "all(epochs=2, lr=1e-2, batch_norm=train) | all(epochs=1, lr=1e-4, conditional=True)"
    made = trained(data, tmp_path, tiny, phases=phases, augment="none")
    first = made.records[0]
    assert asked == [(first.alpha, first.initial[0], first.final[0])]
    assert [record.epochs for record in made.records] == ([2, 1] if enough else [2])
    assert ("left out, for the phase before" in capsys.readouterr().out) == (not enough)
    assert made.trained.validation_outputs().shape == (len(data.val), 2)


def test_near_images_leave_the_first_half_of_the_blocks_as_it_was(data, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(domain_shift, "measure", lambda *given: 0.01)
    # A step of so few pixels is no less work behind a cache.
    monkeypatch.setattr(caching, "MAX_WORK_RATIO", 1.0)
    kept = weight_interpolation.KeptWeights(1.0, 1.0, (0.1, 1.0))
    monkeypatch.setattr(weight_interpolation, "choose", lambda *given, **more: kept)
    settings = {"phases": "auto", "augment": "auto", "head_init": "probe", "batch_size": 4}
    run = trained(data, tmp_path, tiny, **settings)
    assert run.records[1].name == "02-top" and run.records[1].views > 0
    before = keras.models.load_model(tiny)
    same(run.network.model.get_layer("conv_1").get_weights(), before.get_layer("conv_1").get_weights())
    moved = np.abs(run.network.model.get_layer("conv_4").get_weights()[0] - before.get_layer("conv_4").get_weights()[0])
    assert moved.max() > 0


def test_the_first_phase_cannot_depend_on_one_before(data, tiny, tmp_path):
    with pytest.raises(UserError, match=r"--phases: the first phase cannot be conditional.*Received: 'all\("):
        trained(data, tmp_path, tiny, phases="all(epochs=1, conditional=True)", augment="none")


def test_a_phase_takes_the_augmentation_of_auto_where_the_flag_names_another(data, tiny, tmp_path):
    phases = "head(epochs=1, augment=auto) | all(epochs=1)"
    trained(data, tmp_path, tiny, phases=phases, augment="flip")
    first, second = json.loads((tmp_path / "settled.json").read_text())["phases"]
    assert "augment=crop(" in first
    assert planning.parse(second).augment == specs.parse("flip", "--augment")


def test_a_record_is_written_for_each_phase(data, tiny, tmp_path):
    made = trained(data, tmp_path, tiny, phases="head(epochs=1) | all(epochs=1)", augment="none")
    for record in made.records:
        place = tmp_path / "phases" / record.name
        assert json.loads((place / "record.json").read_text()) == json.loads(json.dumps(record.to_json()))
        with h5py.File(place / "model.weights.h5") as file:
            assert set(file) == {"layers", "vars"}  # no optimizer
    same(soup.read_run(str(tmp_path), made.network), made.weights)
    first, second = made.records
    assert (first.name, second.name) == ("01-head", "02-all")
    assert first.trainable_parameters + first.frozen_parameters == made.network.model.count_params()
    assert second.trainable_parameters > first.trainable_parameters


@pytest.mark.large
@pytest.mark.parametrize("kept", [True, False])
def test_a_quantised_phase_leaves_rounded_kernels_or_nothing_at_all(data, tiny, tmp_path, monkeypatch, capsys, kept):
    choice = weight_interpolation.KeptWeights(1.0, 1.0, (0.1, 1.0)) if kept else weight_interpolation.UNDONE
    monkeypatch.setattr(weight_interpolation, "choose", lambda *given, **more: choice)
    made = trained(data, tmp_path, tiny, phases="quantised(epochs=1, lr=1e-3)", augment="none")
    keras.utils.set_random_seed(0)
    before = networks.build(Config(backbone=tiny, head_init="glorot_uniform"), len(data.classes), data.task).model
    # The biases of the start of the phase, which make up for the rounding, are not left either. Only the statistics of the
    # features are measured before it.
    pairs = zip(made.network.model.weights, before.weights, strict=True)
    alike = [np.array_equal(a, b) for a, b in pairs if not a.path.startswith(layer_names.STANDARDISE)]
    assert all(alike) == (not kept)
    kernel = np.asarray(made.network.model.get_layer("conv_2").kernel)
    rounded = eight_bits.round_kernel(kernel, depthwise=False)
    assert np.allclose(kernel, rounded, rtol=1e-6, atol=0) == kept
    # The answers of the changed network are not those of the run.
    assert made.trained.validation_outputs is None
    assert "01-quantised: that is the network as int8 computes it; as it is served" in capsys.readouterr().out
