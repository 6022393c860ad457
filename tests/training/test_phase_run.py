"""A phase under way: its best weights, its patience, and what it may leave behind."""

import numpy as np
import pytest
from conftest import splits_of
from training_runs import same, trained, vectors, watched

from kerasft.networks import blending
from kerasft.settings import spec as specs
from kerasft.storage import checkpoints
from kerasft.strategies.phase import Phase
from kerasft.training import weight_interpolation


def test_a_loss_that_is_no_number_is_not_the_best(tmp_path):
    run = vectors(tmp_path, patience=2)
    run.state.losses = [0.5, float("nan"), 0.4]
    assert not run.out_of_patience()
    run.state.losses = [0.5, float("nan"), 0.6]
    assert run.out_of_patience()
    run.state.losses = [float("nan")] * 3
    assert run.out_of_patience()
    assert not vectors(tmp_path).out_of_patience()  # without --patience never


def test_the_lowest_loss_is_the_best(tmp_path):
    run = vectors(tmp_path)
    found = [run.keep_if_best((loss, 0.5)) for loss in (0.9, float("nan"), 0.8, 0.85)]
    assert found == [True, False, True, False]
    assert run.state.best_score == (0.8, 0.5)
    run.model.set_weights([weight + 1 for weight in run.best])
    kept = [weight.copy() for weight in run.best]
    assert not run.keep_if_best((0.8, 0.9))
    same(run.best, kept)


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [("cosine", 3, ["last"]), ("constant", 3, ["last", "best"]), ("cosine", 2, ["best"])],  # the latter by --patience
)
def test_what_a_phase_came_to(tmp_path, schedule, epoch, expected):
    run = vectors(tmp_path)
    run.phase = Phase(strategy="all", unfreeze=1.0, epochs=3, lr=1e-3, schedule=specs.parse_one(schedule, "--schedule"))
    run.best, run.last = ["best"], ["last"]
    run.state.epoch, run.state.best_score = epoch, (0.5, 0.9)
    assert [candidate[0] for candidate in run.candidates()] == expected
    # No loss was finite.
    run.state.best_score = None
    assert [candidate[0] for candidate in run.candidates()] == expected[: expected[0] == "last"]


@pytest.mark.parametrize(
    ("phase", "config", "expected"),
    [
        ({"stop_if_losing": True}, {}, [3, 6, 8]),
        ({}, {}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"stop_if_losing": True}, {"patience": 2}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"stop_if_losing": True}, {"average": "soup"}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"stop_if_losing": True, "schedule": "constant"}, {}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_epochs_of_auto_are_scored_where_that_decides_something(tmp_path, phase, config, expected):
    """Of 8 epochs `stop_if_losing` judges the third. One in three is scored to be seen, and the last."""
    run = vectors(tmp_path, **config)
    schedule = specs.parse_one(phase.pop("schedule", "cosine"), "--schedule")
    run.phase = Phase(strategy="all", unfreeze=1.0, epochs=8, lr=1e-3, schedule=schedule, **phase)
    assert [epoch for epoch in range(1, 9) if run.is_scored(epoch)] == expected


def test_a_solved_head_leaves_its_best_weights_alone(tmp_path):
    run = vectors(tmp_path)
    run.phase = Phase(strategy="head", unfreeze=0.0, epochs=0, lr=1e-3)
    assert run.candidates() == []
    run.keep_if_best((0.5, 0.9))
    assert [id(weights) for weights in run.candidates()] == [id(run.best)]


def test_what_is_saved_in_the_middle_of_a_phase(tmp_path):
    """The optimizer, both ends and, in the middle of an epoch, the sums of its metrics; `last` where there is one."""
    run = vectors(tmp_path)
    run.model.compile("adam", "mse")
    run.started -= 100
    run.save()
    run.state.step, run.last = 3, [weight + 1 for weight in run.best]
    run.save()
    arrays, values, serial, damaged = checkpoints.load(tmp_path)
    assert set(arrays) == {"variables", "optimizer", "initial", "best", "last", "metrics"}
    assert (values["step"], serial, damaged) == (3, 1, None)
    assert values["seconds"] >= 100
    same(arrays["last"], run.last)


@pytest.mark.parametrize("undone", [False, True])
def test_a_phase_blends_in_what_it_trains_and_is_judged_with_it(photos, tiny, tmp_path, monkeypatch, undone):
    """The blend is far from its end when the phase is over."""
    runs, judged = watched(monkeypatch), []

    def noted(outputs_at, scorer, candidates, alphas, **more):
        end = runs[0].model
        for alpha in (0.0, 0.5, 1.0):
            outputs_at(0, alpha)
            judged.append([float(blend.share) for blend in blending.blends_of(end)])
        return weight_interpolation.KeptWeights(0.5, 1.0, (0.5, 0.9)) if not undone else weight_interpolation.UNDONE

    monkeypatch.setattr(weight_interpolation, "choose", noted)
    settings = {"surgery": "activation(relu=tanh, blend=1000)", "phases": "top(unfreeze=0.5, epochs=1, lr=1e-3)"}
    made = trained(splits_of(f"folder:{photos}", val=0.2, test=0.2), tmp_path / "run", tiny, augment="none", **settings)
    (run,), blends = runs, blending.blends_of(made.network.model)
    assert [blend.name for blend in run.blends] == [blend.name for blend in blends[2:]]
    # What is frozen computes what it did.
    assert judged == [[0, 0, 1, 1]] * 3
    # The shares that training came to are in the weights that it goes on from.
    shares = {blend.share.path for blend in run.blends}
    best = [value for weight, value in zip(run.model.weights, run.best) if weight.path in shares]
    np.testing.assert_allclose(best, made.steps_per_epoch / 1000, rtol=1e-4)
    assert [float(blend.share) for blend in blends] == [0, 0, 1, 1]
    settled = blending.without_blends(made.network).model
    kinds = [settled.get_layer(blend.name).get_config().get("activation") for blend in blends]
    assert kinds == [None, None, "tanh", "tanh"]
    first = run.judged(run.initial)
    assert all(map(np.array_equal, run.model.get_weights(), first)) == undone


@pytest.mark.parametrize("phase", ["lora(rank=2, epochs=1)", "quantised(epochs=1)"])
def test_an_undone_phase_in_a_changed_network_leaves_what_it_was_judged_with(
    photos, tiny, tmp_path, monkeypatch, phase
):
    monkeypatch.setattr(weight_interpolation, "choose", lambda *given, **more: weight_interpolation.UNDONE)
    settings = {"surgery": "activation(relu=tanh, blend=1000)", "phases": phase, "augment": "none"}
    made = trained(splits_of(f"folder:{photos}", val=0.2, test=0.2), tmp_path / "run", tiny, **settings)
    assert [float(blend.share) for blend in blending.blends_of(made.network.model)] == [1, 1, 1, 1]
