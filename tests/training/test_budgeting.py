"""`--budget_minutes` in a run, at an injected speed: phases of `auto` are shortened, named ones only warned of."""

import json
import time
from dataclasses import replace

import pytest
from conftest import splits_of
from training_runs import same, trained, watched

from kerasft import strategies
from kerasft.networks.multiplications import forward_work
from kerasft.settings import spec as specs
from kerasft.strategies import auto, budget, caching
from kerasft.strategies.budget import Allowance, Speed
from kerasft.training import autotune, budgeting, domain_shift, fitting, weight_interpolation

AUTO = {"phases": "auto", "augment": "none", "head_init": "probe", "budget_minutes": 1.0}


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}", val=0.2, test=0.2)


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """A step takes a thousand seconds, beside which what a test itself takes does not count; nothing else takes any."""
    asked = []
    monkeypatch.setattr(auto, "FINE_TUNING_STEPS", 24)
    monkeypatch.setattr("kerasft.strategies.budget.MIN_STEPS", 4)
    monkeypatch.setattr("kerasft.strategies.budget.WRITING_SECONDS", 0.0)
    # A phase that loses would end before its length.
    monkeypatch.setattr(weight_interpolation, "is_losing", lambda *given: False)
    found = Speed(tracing=0.0, step=1e3, image=0.0)
    monkeypatch.setattr(budgeting, "measure", lambda *given: asked.append(given[1].strategy) or (lambda epochs: found))
    return asked


def _left(seconds: float) -> Allowance:
    """A minute, of which so many seconds are left."""
    return Allowance(60.0, time.monotonic() - 60.0 + seconds, 0.0)


def _settled(folder) -> dict:
    return json.loads((folder / "settled.json").read_text())


def _epochs(run) -> list[int]:
    return [record.epochs for record in run.records]


def test_a_phase_of_auto_has_the_epochs_that_fit(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(domain_shift, "measure", lambda *given: None)
    monkeypatch.setattr(auto, "gained_enough", lambda *given: True)
    free = trained(data, tmp_path / "free", tiny, _left(1e7), **AUTO)
    said = capsys.readouterr().out
    planned = _epochs(free)
    assert planned[0] == 0 and planned[1] > 2 and planned[2] == 3 * planned[1]
    assert "budget:" not in said
    left = 2.5e3 * free.steps_per_epoch
    run = trained(data, tmp_path / "short", tiny, _left(left), **AUTO)
    assert _epochs(run) == [0, 2, 2]
    said = capsys.readouterr().out
    assert f"budget: 02-all has 2 of {planned[1]} epochs: " in said
    assert f"budget: 03-all has 2 of {planned[2]} epochs: " in said
    assert [f"epochs={n}," in text for n, text in zip((0, 2, 2), _settled(tmp_path / "short")["phases"])] == [True] * 3
    # The schedule is that of the shorter phase.
    assert [row["step"] for row in run.rows] == [n * run.steps_per_epoch for n in (1, 2, 3, 4)]


def test_far_images_have_their_rate_in_a_run_and_in_what_it_has_settled(data, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(domain_shift, "measure", lambda *given: 0.01)
    near = trained(data, tmp_path / "near", tiny, _left(1e7), **AUTO)
    monkeypatch.setattr(domain_shift, "measure", lambda *given: 0.3)
    far = trained(data, tmp_path / "far", tiny, _left(1e7), **AUTO)
    assert len(near.records) == len(far.records) == 2
    rates = [strategies.planning.parse(run.records[1].spec).lr for run in (near, far)]
    assert rates[1] == pytest.approx(3 * rates[0], rel=0.01)
    assert [_settled(tmp_path / name)["shift"] for name in ("near", "far")] == [0.01, 0.3]


def test_a_phase_that_cannot_be_finished_in_time_is_not_begun(data, tiny, tmp_path, speed, capsys):
    run = trained(data, tmp_path, tiny, _left(-1.0), **AUTO)
    assert [record.name for record in run.records] == ["01-head"]
    assert "budget: 02-all is not begun" in capsys.readouterr().out
    # There is nothing to be measured for.
    assert speed == []
    assert len(_settled(tmp_path)["phases"]) == 1
    assert run.trained.validation_outputs is not None


def test_what_is_named_after_auto_keeps_its_time_and_follows_whatever_auto_leaves_out(
    data, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(domain_shift, "measure", lambda *given: None)
    monkeypatch.setattr(auto, "gained_enough", lambda *given: False)
    left = 3.5e3 * (len(data.train) // 8)
    run = trained(data, tmp_path, tiny, _left(left), **AUTO | {"phases": "auto | bias(epochs=1)"})
    assert [(record.name, record.epochs) for record in run.records] == [("01-head", 0), ("02-all", 2), ("04-bias", 1)]
    said = capsys.readouterr().out
    assert "budget: 02-all has 2 of " in said
    assert "03-all: left out, for the phase before was not kept whole, or gained little" in said


def test_a_conditional_phase_stays_one_where_the_phase_before_is_not_begun(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(auto, "gained_enough", lambda *given: False)
    phases = "auto | bias(epochs=1, conditional=True)"
    run = trained(data, tmp_path, tiny, _left(-1.0), **AUTO | {"phases": phases})
    assert [record.name for record in run.records] == ["01-head"]
    said = capsys.readouterr().out
    assert "budget: 02-all is not begun" in said and "02-bias: left out, for the phase before" in said


@pytest.mark.large
def test_what_is_named_is_trained_in_full_and_said_before(data, tiny, tmp_path, speed, monkeypatch, capsys):
    said_before = []
    fit = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *given: said_before.append(capsys.readouterr().out) or fit(*given))
    phases = {"phases": "all(epochs=3, lr=1e-3)"}
    assert _epochs(trained(data, tmp_path / "late", tiny, _left(1.0), **AUTO | phases)) == [0, 3]
    assert "WARNING: --budget_minutes=1 will not be kept: 1 phase of --phases take" in said_before[0]
    trained(data, tmp_path / "soon", tiny, _left(1e7), **AUTO | phases)
    assert "budget" not in said_before[1]
    # What auto adds is shortened all the same.
    speed.clear()
    run = trained(data, tmp_path / "both", tiny, _left(1.0), **AUTO | {"phases": "all(epochs=1, lr=1e-3) | auto"})
    assert _epochs(run) == [0, 1]
    assert len(_settled(tmp_path / "both")["phases"]) == 2


def test_a_resumed_phase_keeps_its_length_and_comes_to_the_same_weights(data, tiny, tmp_path, speed, monkeypatch):
    def stops(run, *states):
        run.checkpointer.save(run.state, {"initial": run.initial, "best": run.best})
        raise ZeroDivisionError

    enough = 2.5e3 * (len(data.train) // 8)
    whole = trained(data, tmp_path / "whole", tiny, _left(enough), **AUTO)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", stops)
        with pytest.raises(ZeroDivisionError):
            trained(data, tmp_path / "cut", tiny, _left(enough), **AUTO)
    speed.clear()
    rest = trained(data, tmp_path / "cut", tiny, _left(-1e4), **AUTO)
    assert speed == []
    assert _epochs(rest) == _epochs(whole)
    same(rest.weights, whole.weights)


def test_time_of_earlier_starts_counts(data, tiny, tmp_path):
    run = trained(data, tmp_path, tiny, _left(50.0), **AUTO | {"phases": "head"})
    assert _settled(tmp_path)["budget"]["before_training"] == pytest.approx(10.0, abs=5.0)
    state = run.trained.state
    state.seconds = 7.0
    earlier = state.resolved.budget["before_training"] + 7.0 + sum(record.seconds for record in run.records)
    now = _left(60.0)
    assert budgeting.resumed_allowance(now, state).started == pytest.approx(now.started - earlier)
    assert budgeting.resumed_allowance(None, state) is None


@pytest.mark.parametrize(("seconds", "said"), [(60.0, False), (68.0, False), (70.0, True)])
def test_a_budget_that_was_not_kept_is_said(seconds, said, capsys):
    budgeting.say_overdrawn(1.0, seconds)
    budgeting.say_overdrawn(None, seconds)
    assert ("more than --budget_minutes=1" in capsys.readouterr().out) == said


def test_measuring_leaves_the_network_as_it_was(data, tiny, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(budgeting, "SECONDS_OF_STEPS", 0.0)
    runs = watched(monkeypatch)
    trained(data, tmp_path, tiny, phases="all(epochs=1, lr=1e-3)", augment="flip")
    setup, phase = runs[0].setup, runs[0].phase
    before = setup.network.model.get_weights()
    found = budgeting.measure(setup, phase, None)(1)
    assert found.tracing > found.step > found.image > 0
    same(setup.network.model.get_weights(), before)
    frozen = replace(strategies.head(epochs=1), augment=())
    assert budgeting.measure(setup, frozen, 1e-3)(1).image == 1e3


def test_a_phase_on_cached_features_computes_what_is_frozen_once(data, tiny, tmp_path, monkeypatch):
    monkeypatch.undo()
    runs = watched(monkeypatch)
    trained(data, tmp_path, tiny, phases="all(epochs=1, lr=1e-3)", augment="none")
    setup = runs[0].setup
    monkeypatch.setattr(autotune, "time_step", lambda *given: (5.0, 2.0))
    monkeypatch.setattr(budgeting, "_seconds_of_batch", lambda *given: 0.5)
    anew = replace(strategies.head(epochs=40, views=0), augment=())
    cached, steps, val = replace(anew, views=1), setup.steps_per_epoch, len(data.val)
    assert budgeting.measure(setup, anew, None)(40) == Speed(5.0, 2.5, 2.0 / (8 * 4))
    found = budgeting.measure(setup, cached, None)(40)
    front, _ = caching.split_at_cut(setup.network, cached)
    share = forward_work(front) / forward_work(setup.network.model)
    assert found.image == 2.0 / (8 * 4)
    assert found.step == pytest.approx(2.0 * 4 * (1 - share) / (share + 4 * (1 - share)))
    assert found.ahead == pytest.approx(share * (len(data.train) + val) * found.image + len(data.train) / 8 * 0.5)
    expected = found.ahead + 4 * 5.0 + 40 * steps * found.step
    expected += (2 + len(cached.alphas) + 40) * val * found.image * (1 - share)
    assert budget.seconds_of_phase(cached, 40, steps, val, found) == pytest.approx(expected)
    # A shorter phase caches fewer augmentations, by the same figures.
    augmented = replace(strategies.head(epochs=40), augment=specs.parse("flip", "--augment"))
    speed_of = budgeting.measure(setup, augmented, None)
    many, few = (speed_of(epochs).ahead for epochs in (40, 16))
    view = share * len(data.train) * found.image + len(data.train) / 8 * 0.5
    assert (caching.views_at_best(augmented), many - few) == (10, pytest.approx(6 * view))


def test_a_plan_that_too_few_validation_images_cut_is_shortened_all_the_same(photos, tiny, tmp_path, capsys):
    data = splits_of(f"folder:{photos}", val=0.05, test=0.2)
    assert len(data.val) < 5
    settings = AUTO | {"phases": "auto | bias(epochs=1)", "head_init": "glorot_uniform"}
    run = trained(data, tmp_path, tiny, _left(2.5e3 * (len(data.train) // 8)), **settings)
    (record,) = run.records
    assert record.epochs == 2 and "budget: 01-" in (said := capsys.readouterr().out) and "WARNING" not in said
