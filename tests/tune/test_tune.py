"""`--mode=tune`: trials, failures, resume after kill -9, the winner, the page, and KerasTuner's chief and workers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import keras_tuner
import numpy as np
import pytest
from conftest import ROOT
from pages import Page
from PIL import Image

import kerasft
from kerasft import report
from kerasft.data.listing import SPLITS
from kerasft.job import backbone
from kerasft.probes import framing_choice
from kerasft.report import importance
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings
from kerasft.strategies import auto, planning
from kerasft.tune import hypermodel, oracles, phase_settings, search, search_space, study

SMALL = ("--weights=none", "--image_size=32", "--batch_size=16", "--precision=float32", "--augment=none")
HEAD = "--phases=head(epochs=1, lr=1e-2)"
SPACE = "lr=log(1e-4, 1); optimizer=choice(adamw, sgd(momentum=0.9)); optimizer.sgd.momentum=choice(0.5, 0.75)"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Collecting garbage takes longer than a Stub's trial."""
    monkeypatch.setattr(study, "free_networks", lambda: None)


class Stub(keras_tuner.HyperModel):
    """Stands for the training: a score from the values, and a failure for a batch size of 7."""

    def __init__(self, text: str):
        super().__init__()
        self.space = search_space.parse(text, Config())
        self.trained_config, self.epochs = Config(), []

    def build(self, hp):
        return None

    def fit(self, hp, model, folder, epochs):
        values = search_space.declare(self.space, hp)
        self.epochs.append(epochs)
        self.records = [{"epochs": epochs or 2}]
        if values.get("batch_size") == 7:
            raise RuntimeError("out of \n memory")
        if values.get("batch_size") in (4, 5, 6):
            return {4: {}, 5: {"val_loss": np.nan}, 6: {"val_loss": None}}[values["batch_size"]]
        return {"val_loss": abs(np.log10(values.get("lr", 1e-2)) + 2) + 1 / (epochs or 1), "val_accuracy": 0.5}


def searched(folder: Path, tuner: str, text: str = SPACE, budget: float = np.inf, stop: int | None = None) -> Stub:
    """Runs a search over a Stub to its end, or until so many trials are done."""
    own = {name: getattr(oracles, name) for name in oracles.__all__}
    given = {"seed": 1, "max_consecutive_failed_trials": None}
    oracle = specs.build(specs.parse_one(tuner, "--tuner"), "--tuner", own, kind=oracles.ResumableOracle, **given)
    stub = Stub(text)
    oracle.objective = keras_tuner.Objective("val_loss", "min")
    search_space.declare(stub.space, oracle.hyperparameters)
    oracle.start(budget)

    def ended(row):
        if stop and len(study.read_trials(folder)) >= stop:
            raise KeyboardInterrupt  # before KerasTuner knows of the end, as a kill would

    tuner = study.Study(oracle, stub, folder, ended)
    tuner.save()
    tuner.search(verbose=0)
    stub.oracle = oracle
    return stub


def test_a_grid_is_complete_without_what_does_not_count(tmp_path):
    searched(tmp_path, "grid", "batch_size=int(8, 24, 8); " + SPACE.partition("; ")[2])
    rows = [row["values"] for row in study.read_trials(tmp_path)]
    assert len(rows) == 3 * 3  # adamw, sgd at 0.5, sgd at 0.75
    assert len({json.dumps(row, sort_keys=True) for row in rows}) == 9
    assert all(("optimizer.sgd.momentum" in row) == (row["optimizer"] != "adamw") for row in rows)


def test_a_grid_of_a_range_takes_ten_rising_values(tmp_path):
    searched(tmp_path, "grid", "lr=log(1e-4, 1)")
    found = [row["values"]["lr"] for row in study.read_trials(tmp_path)]
    assert len(found) == 10
    assert found == sorted(found)


@pytest.mark.parametrize(
    "tuner",
    ["random(trials=4)", pytest.param("bayesian(trials=4, initial=3)", marks=pytest.mark.large), "grid(trials=4)"],
)
def test_a_search_that_is_stopped_goes_on_to_the_same_trials(tuner, tmp_path):
    text = SPACE + "; batch_size=int(8, 32, 8)"
    searched(tmp_path / "whole", tuner, text)
    for stop in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path / "parts", tuner, text, stop=stop)
        last = next((tmp_path / "parts" / "tuner").glob("trial_*/trial.json")).read_text()
        orphan = tmp_path / "parts" / "tuner" / f"trial_{stop}" / "trial.json"  # written before the oracle's state
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_text(json.dumps({**json.loads(last), "trial_id": str(stop), "status": "RUNNING"}))
    stub = searched(tmp_path / "parts", tuner, text)
    whole, parts = ([row["values"] for row in study.read_trials(tmp_path / name)] for name in ("whole", "parts"))
    assert len(parts) == len(whole) == 4
    assert not stub.epochs  # those that were finished are not trained again
    if not tuner.startswith("bayesian"):  # whose restarts of the optimiser are not in KerasTuner's state
        assert parts == whole


# The scores of these trials are equal.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("tuner", ["random(trials=9)", "bayesian(trials=9, initial=2)"])
def test_no_settings_are_trained_twice(tuner, tmp_path):
    oracle = searched(tmp_path, tuner, "optimizer=choice(adamw, sgd, lion, rmsprop)").oracle
    assert oracle.has_run_out() and (len(oracle.trials), oracle.max_trials) == (4, 9)
    found = [row["values"]["optimizer"] for row in study.read_trials(tmp_path)]
    assert sorted(found) == ["adamw", "lion", "rmsprop", "sgd"]


def test_a_trial_that_another_process_trains_is_awaited_and_reported(tmp_path):
    """A chief that was started again hands out a trial that a worker still trains."""
    begun, own = threading.Event(), Stub.fit

    class Slow(Stub):
        def fit(self, *given, **more):
            begun.set()
            time.sleep(0.3)
            return own(self, *given, **more)

    rows = []

    def trains(stub):
        trial = keras_tuner.engine.trial.Trial(keras_tuner.HyperParameters(), trial_id="4")
        search_space.declare(stub.space, trial.hyperparameters)
        oracle = oracles.random(trials=2)
        oracle.objective = keras_tuner.Objective("val_loss", "min")
        study.Study(oracle, stub, tmp_path, rows.append).run_trial(trial)

    slow, late = Slow("lr=log(1e-4, 1)"), Stub("lr=log(1e-4, 1)")
    thread = threading.Thread(target=trains, args=(slow,))
    thread.start()
    assert begun.wait(20)
    trains(late)
    thread.join()
    assert [row["status"] for row in rows] == ["COMPLETED"] * 2
    assert late.epochs == [] and len(slow.epochs) == 1


def test_hyperband_trains_the_better_ones_longer(tmp_path):
    stub = searched(tmp_path, "hyperband(max_epochs=4, factor=2)", "lr=log(1e-4, 1)")
    assert set(stub.epochs) == {1, 2, 4}
    rows = study.read_trials(tmp_path)
    assert [row["values"]["epochs"] for row in rows] == stub.epochs
    long = [row["values"]["lr"] for row in rows if row["values"]["epochs"] == 4]
    short = [row["values"]["lr"] for row in rows if row["values"]["epochs"] == 1]
    assert set(long) & set(short)


def test_failed_trials_are_recorded_and_passed_by(tmp_path):
    searched(tmp_path, "grid", "batch_size=choice(7, 8); lr=choice(0.1, 0.01)")
    rows = study.read_trials(tmp_path)
    assert [row["status"] for row in rows] == ["FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert rows[0]["error"] == "RuntimeError: out of memory"
    assert (rows[0]["score"], rows[0]["values"]) == (None, {"batch_size": 7, "lr": 0.1})
    assert "Traceback" in (tmp_path / "trials" / rows[0]["trial"] / "error.txt").read_text()
    assert report.rank_trials(rows, "min")[0]["values"] == {"batch_size": 8, "lr": 0.01}
    assert report.rank_trials(rows, "max")[0]["values"] == {"batch_size": 8, "lr": 0.1}


def test_trials_without_a_common_loss_are_ranked_by_their_score_alone():
    rows = [{"status": "COMPLETED", "score": score, "measures": {"val_mae": score}} for score in (0.2, 0.1, 0.2)]
    assert report.rank_trials(rows, "min") == [rows[1], rows[0], rows[2]]


def test_a_score_that_is_none_or_not_a_number_is_a_failure(tmp_path):
    searched(tmp_path, "grid", "batch_size=choice(4, 5, 6, 8); lr=choice(0.1, 0.01)")
    rows = study.read_trials(tmp_path)
    assert [row["status"] for row in rows] == ["FAILED"] * 6 + ["COMPLETED"] * 2
    assert {row["error"] for row in rows[:6]} == {
        "--objective: cannot be measured on these validation images. Received: 'val_loss'"
    }
    assert report.rank_trials(rows, "min")[0]["values"] == {"batch_size": 8, "lr": 0.01}


def test_a_search_does_not_go_on_with_other_images(tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def begins(*given, **more):
        raise Begun

    def refuse_changes(config, listing, folder):
        raise UserError(f"--data: has changed since the run in {folder.name} began. Received: 'x'")

    monkeypatch.setattr(search, "HyperModel", begins)
    monkeypatch.setattr(search, "refuse_changes", refuse_changes)
    given = {"search": "lr=log(1e-4, 1)", "tuner": "random(trials=2)", "objective": "auto"}
    config = Config(data="generated:2x20", phases="head(epochs=1)", run_dir=str(tmp_path / "r"))
    with pytest.raises(Begun):
        search.tune(config, **given)
    # Its first trial has begun.
    (tmp_path / "r" / "tuner").mkdir()
    with pytest.raises(UserError, match="has changed since the run in r began"):
        search.tune(config, **given)


def test_the_budget_counts_earlier_starts(tmp_path):
    searched(tmp_path, "random(trials=5)", budget=1e-9)
    assert len(study.read_trials(tmp_path)) == 1
    searched(tmp_path, "random(trials=5)", budget=1e-9)
    assert len(study.read_trials(tmp_path)) == 1
    searched(tmp_path, "random(trials=5)")
    assert len(study.read_trials(tmp_path)) == 5


def test_rates_and_epochs_keep_their_ratio():
    from kerasft.networks import network as networks

    config = Config(weights="none", image_size=32, phases="head(2, 1e-2) | all(epochs=4, lr=1e-3, augment=flip|rotate)")
    network = networks.build(config, 2, "single_label")
    found = phase_settings.set_lr_and_epochs(config, network, 100, lr=5e-4, epochs=2)
    assert found == "head(epochs=1, lr=0.005) | all(epochs=2, lr=0.0005, augment=flip | rotate)"
    assert Config(phases=found).phases == found
    gradual = phase_settings.set_lr_and_epochs(
        Config(weights="none", phases="gradual(stages=2, lr=1e-3)"), network, 100, lr=1e-4
    )
    assert (
        gradual == "gradual(stages=2, epochs=2, lr=0.0001, stage=1) | gradual(stages=2, epochs=2, lr=0.0001, stage=2)"
    )
    automatic = phase_settings.set_lr_and_epochs(Config(weights="none"), network, 100, epochs=3)
    assert automatic == "all(epochs=3, lr=0.001, batch_norm='train')"
    followed = phase_settings.set_lr_and_epochs(
        Config(weights="none", phases="head(2, 1e-2) | auto"), network, 100, lr=1e-4
    )
    assert followed == "head(epochs=2, lr=0.001) | all(epochs=60, lr=0.0001, batch_norm='train')"
    behind = phase_settings.set_lr_and_epochs(
        Config(weights="none", phases="auto | quantised(epochs=2)"), network, 100, lr=1e-4, epochs=3
    )
    assert behind == "all(epochs=3, lr=0.0001, batch_norm='train') | quantised(epochs=2)"
    solved = phase_settings.set_lr_and_epochs(
        Config(), network._replace(pretrained=True, head_init="probe"), 100, epochs=17
    )
    # The head's rate depends on the depths that a trial's head sees.
    assert solved.endswith("stop_if_losing=True, head_lr='auto')")
    far = phase_settings.set_lr_and_epochs(
        Config(), network._replace(pretrained=True, head_init="probe"), 100, epochs=17, shift=0.3
    )
    rates = [planning.build(specs.parse(text, "--phases")[-1], "--phases")[-1] for text in (solved, far)]
    assert rates[1].lr == pytest.approx(3 * rates[0].lr, rel=0.01)
    assert (rates[1].stop_if_losing, rates[1].head_lr) == (False, "auto")
    near = phase_settings.set_lr_and_epochs(
        Config(), network._replace(pretrained=True, head_init="probe"), 400, epochs=17, shift=0.03
    )
    assert planning.build(specs.parse(near, "--phases")[-1], "--phases")[-1].unfreeze == auto.NEAR_UNFREEZE
    assert "top(unfreeze=0.5, epochs=17, " in near
    pretrained = network._replace(pretrained=True, head_init="zeros")
    trained_head = phase_settings.set_lr_and_epochs(Config(), pretrained, 100, epochs=17)
    assert trained_head.startswith("head(epochs=2, lr=0.001) | all(epochs=17, ")
    for phases in ("head(epochs=0)", "head(0)"):
        with pytest.raises(kerasft.UserError, match="need a phase with epochs"):
            phase_settings.set_lr_and_epochs(Config(weights="none", phases=phases), network, 100, lr=1.0)


@pytest.mark.parametrize(
    ("names", "phases", "sets_epochs", "message"),
    [
        (("epochs",), "head", True, "hyperband sets the epochs itself"),
        (("lr", "phases.epochs"), "head(epochs=2)", True, "hyperband sets the epochs of all phases"),
        (("phases.all.lr", "lr"), "head | all", False, "lr is that of all phases; search one of both"),
        (("phases.all.epochs", "epochs"), "head | all", False, "epochs is that of all phases"),
    ],
)
def test_a_setting_that_another_one_replaces_is_not_searched(names, phases, sets_epochs, message):
    with pytest.raises(kerasft.UserError, match=rf"^--search: {message}.* Received: '(phases|epochs)"):
        phase_settings.check_searched(names, Config(phases=phases), sets_epochs)


def test_each_phase_may_have_its_own_searched_settings():
    phase_settings.check_searched(("phases.head.lr", "phases.all.lr", "epochs"), Config(phases="head | all"), False)
    # Phases after `auto` are not changed by `lr`, `epochs` and hyperband.
    names = ("lr", "phases.quantised.lr", "phases.quantised.epochs")
    phase_settings.check_searched(names, Config(phases="auto | quantised(epochs=2)"), True)


def test_the_winner_goes_on_with_the_optimizer_of_the_search():
    config = Config(optimizer="adamw", phases="head(epochs=3)")
    trial = Config(optimizer="sgd(momentum=0.9)", phases="head(epochs=3, lr=0.1)", batch_size=8)
    winner = phase_settings.append_phases(trial, config, "auto")
    assert winner.phases == "head(optimizer=sgd(momentum=0.9), epochs=3, lr=0.1) | auto"
    assert (winner.optimizer, winner.batch_size) == ("adamw", 8)
    named = Config(optimizer="sgd", phases="head(3, optimizer=lion)")
    assert phase_settings.append_phases(named, config, "all").phases == "head(optimizer=lion, epochs=3) | all"


@pytest.mark.parametrize(
    ("phases", "settled", "expected"),
    [
        ("head", ["head(epochs=0, optimizer=sgd, schedule=cosine)"], "head"),
        ("head | bias", ["head(epochs=0)", "bias(epochs=5)"], "head | bias(optimizer=sgd)"),
        ("head", ["head(epochs=5)"], "head(optimizer=sgd)"),
        # A head that nobody names is solved before it.
        ("bias", ["head(epochs=0)", "bias(epochs=5)"], "bias(optimizer=sgd)"),
    ],
)
def test_a_head_that_a_trial_solved_takes_no_optimizer_of_the_search(phases, settled, expected, tmp_path):
    trial = tmp_path / "trials" / "0"
    trial.mkdir(parents=True)
    (trial / "config.json").write_text(json.dumps(asdict(Config(optimizer="sgd", phases=phases))))
    (trial / "settled.json").write_text(json.dumps({"phases": settled}))
    found = search._winner_config(Config(), tmp_path, {"best": {"trial": "0"}, "winner_phases": "all"})
    assert (found.phases, found.optimizer) == (f"{expected} | all", Config().optimizer)


@pytest.mark.parametrize(
    ("after", "trials", "message"),
    [
        ("hed(epochs=2)", "head", r"--winner_phases: must be one of .* \(did you mean 'head'\?\)"),
        ("all(epochs=0)", "head", r"--winner_phases: all\(\) epochs must be a whole number of at least 1"),
        ("all", "auto", r"--winner_phases: continues after --phases, .* Received: '--phases=auto'"),
    ],
)
def test_mistakes_in_what_the_winner_goes_on_with(after, trials, message):
    phase_settings.check_winner_phases(Config(phases="head"), "top(0.5) | auto")
    with pytest.raises(kerasft.UserError, match=message):
        phase_settings.check_winner_phases(Config(phases=trials), after)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A finished search with one kind of trial that fails: (folder that it was run in, its flags, its screen)."""
    place = tmp_path_factory.mktemp("tune")
    (place / "mine.py").write_text(
        "import keras\nclass Boom(keras.optimizers.SGD):\n    def apply(self, *a, **k):\n"
        "        raise RuntimeError('boom <script>')\n"
    )
    line = [f"--data=folder:{photos}", *SMALL, HEAD, "--mode=tune", "--run_dir=r", "--allow_imports=mine"]
    line += ["--search=optimizer=choice(mine.Boom, sgd); lr=choice(1e-3, 0.1)", "--tuner=grid(trials=3)"]
    line += ["--objective=val_accuracy"]
    done = run(*line, cwd=place)
    assert done.returncode == 0, done.stderr
    return place, line, done


def run(*flags: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "kerasft.run", *flags]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{cwd}", "COLUMNS": "120", **environment}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def test_the_command_searches_trains_and_exports(finished):
    place, _, done = finished
    assert (
        len(json.loads((place / "r" / "splits.json").read_text())) == 1
    )  # a worker with other images would be refused
    assert done.stderr == ""
    assert done.stdout.count("audit:") == 2  # once for all trials, once for the winner
    found = json.loads((place / "r" / "tune.json").read_text())
    assert [row["status"] for row in found["trials"]] == ["FAILED", "FAILED", "COMPLETED"]
    keys = {"trial", "values", "score", "status", "seconds", "epochs", "error"}
    assert all(keys <= row.keys() for row in found["trials"])
    assert found["trials"][0]["error"] == "RuntimeError: boom <script>"
    best = found["best"]
    assert best["score"] == max(row["score"] for row in found["trials"] if row["score"] is not None)
    assert (found["direction"], found["finished"]) == ("max", True)
    metrics = json.loads((place / "r" / "best" / "metrics.json").read_text())
    assert Path(place, metrics["export"]["path"], "saved_model.pb").exists()
    config = json.loads((place / "r" / "best" / "config.json").read_text())
    assert config["optimizer"] == best["values"]["optimizer"]
    assert config["phases"] == f"head(epochs=1, lr={best['values']['lr']})"
    assert (place / "r" / "best" / "report.html").exists()
    # Trained again with the same seed, it does on validation what the trial did.
    assert metrics["val"]["accuracy"] == best["score"]
    assert not list((place / "r" / "trials").rglob("*.h5")) + list((place / "r" / "trials").rglob("*.npz"))


def test_tensorboard_is_told_the_settings_and_figures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = finished[0] / "r" / "tensorboard"
    trials = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert len(trials) == 3
    events = EventAccumulator(str(folder / trials[-1])).Reload()
    assert {"val_loss", "val_accuracy"} <= set(events.Tags()["tensors"])
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "_hparams_/experiment" in EventAccumulator(str(folder)).Reload().summary_metadata


def test_the_page_is_whole_and_harmless(finished):
    page = Page((finished[0] / "r" / "tune.html").read_text())
    assert not page.open and not page.loose
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert not [address for address in page.addresses if not address.startswith(("#", "data:"))]
    assert "boom <script>" in page.text["li"]
    assert "accuracy" in page.text["strong"]


def test_a_finished_search_is_a_no_op_and_another_is_refused(finished):
    place, line, _ = finished
    before = (place / "r" / "tune.json").stat().st_mtime_ns
    again = run(*line, cwd=place)
    assert again.returncode == 0, again.stderr
    assert "the search is finished with these settings; nothing to do" in again.stdout
    assert (place / "r" / "tune.json").stat().st_mtime_ns == before
    other = run(*line, "--tuner=random", cwd=place)
    assert other.returncode == 2
    assert "--run_dir: holds another search (tuner: 'grid(trials=3)' then, 'random' now)" in other.stderr
    replayed = (place / "r" / "run.flags").read_text()
    assert (
        "--mode=tune\n--search=optimizer=choice(mine.Boom, sgd); lr=choice(1e-3, 0.1)\n--tuner=grid(trials=3)\n"
        in replayed
    )


@pytest.mark.large
def test_killed_and_started_again_it_repeats_no_finished_trial(photos, tmp_path):
    line = [f"--data=folder:{photos}", *SMALL, HEAD, "--mode=tune", "--run_dir=r", "--tuner=random(trials=3)"]
    line += ["--search=lr=log(1e-4, 1)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        [sys.executable, "-m", "kerasft.run", *line], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    tune = tmp_path / "r" / "tune.json"
    deadline = time.monotonic() + 300
    while not (tune.exists() and json.loads(tune.read_text())["trials"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    before = {row["trial"]: row for row in study.read_trials(tmp_path / "r")}
    again = run(*line, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    found = json.loads(tune.read_text())
    after = {row["trial"]: row for row in found["trials"]}
    assert 1 <= len(before) < len(after) == 3
    assert {name: after[name] for name in before} == before
    assert found["finished"]


@pytest.mark.large
def test_a_tuner_of_ones_own(photos, tmp_path, capsys):
    settings = {"data": f"folder:{photos}", "weights": "none", "image_size": 32, "batch_size": 16}
    settings |= {"precision": "float32", "augment": "none", "phases": "head(epochs=1, lr=1e-2)"}
    model = kerasft.HyperModel(Config(**settings), "lr=log(1e-4, 1); head.dropout=uniform(0, 0.5)")
    tuner = keras_tuner.RandomSearch(model, objective="val_loss", max_trials=2, directory=tmp_path, seed=1)
    tuner.search(verbose=0)
    trials = tuner.oracle.get_best_trials(2)
    assert [trial.status for trial in trials] == ["COMPLETED", "COMPLETED"]
    assert set(trials[0].hyperparameters.values) == {"lr", "head.dropout"}
    (best,) = tuner.get_best_models()
    data = model.data(32, model.config.framing, model.config.per_class_limit)
    outputs = best.predict(data.val.images(np.arange(len(data.val))).astype(np.float32), verbose=0)
    from kerasft.evaluation.scoring import Scorer

    loss = Scorer("single_label", data.val.labels).loss(outputs)
    assert loss == pytest.approx(trials[0].score, rel=1e-4)
    assert capsys.readouterr().out.count("audit:") == 1


@pytest.mark.large
@pytest.mark.parametrize("tuner", ["random(trials=3)", "bayesian(trials=4, initial=2)", "hyperband(max_epochs=2)"])
def test_every_tuner_through_the_command(tuner, photos, tmp_path):
    line = [f"--data=folder:{photos}", *SMALL, HEAD, "--mode=tune", "--run_dir=r", f"--tuner={tuner}"]
    done = run(*line, "--search=lr=log(1e-4, 1); head.dropout=uniform(0, 0.5)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r" / "tune.json").read_text())
    assert {row["status"] for row in found["trials"]} == {"COMPLETED"}
    metrics = json.loads((tmp_path / "r" / "best" / "metrics.json").read_text())
    assert metrics["val"]["loss"] == pytest.approx(found["best"]["score"], rel=1e-3)


@pytest.mark.large
def test_the_winner_goes_on_with_phases_of_its_own(photos, tmp_path):
    line = [f"--data=folder:{photos}", *SMALL, HEAD, "--mode=tune", "--run_dir=r", "--tuner=grid"]
    line += ["--search=optimizer=choice(adamw, sgd)", "--winner_phases=all(epochs=2, lr=1e-3)"]
    done = run(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = json.loads((tmp_path / "r" / "tune.json").read_text())["best"]
    config = json.loads((tmp_path / "r" / "best" / "config.json").read_text())
    assert config["optimizer"] == "adamw"
    searched = "" if best["values"]["optimizer"] == "adamw" else "optimizer=sgd, "
    assert config["phases"] == f"head({searched}epochs=1, lr=0.01) | all(epochs=2, lr=1e-3)"
    metrics = json.loads((tmp_path / "r" / "best" / "metrics.json").read_text())
    assert [phase["epochs"] for phase in metrics["phases"]] == [1, 2]
    assert metrics["phases"][0]["val_before"] > 0
    again = run(*line, cwd=tmp_path)
    assert "nothing to do" in again.stdout
    refused = run(*line, "--phases=auto", "--run_dir=other", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--winner_phases: continues after --phases" in refused.stderr


@pytest.mark.large
def test_a_chief_and_two_workers(photos, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [f"--data=folder:{photos}", *SMALL, HEAD, "--mode=tune", "--run_dir=r", "--tuner=random(trials=6)"]
    line = [sys.executable, "-m", "kerasft.run", *line, "--search=lr=log(1e-4, 1); head.dropout=uniform(0, 0.5)"]
    common = {**os.environ, "PYTHONPATH": str(ROOT)}
    common |= {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    several = {
        name: subprocess.Popen(
            line,
            cwd=tmp_path,
            env={**common, "KERASTUNER_TUNER_ID": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("chief", "worker1", "worker2")
    }
    said = {name: process.communicate(timeout=600) for name, process in several.items()}
    assert [process.returncode for process in several.values()] == [0, 0, 0], said
    found = json.loads((tmp_path / "r" / "tune.json").read_text())
    assert [row["status"] for row in found["trials"]] == ["COMPLETED"] * 6
    assert found["finished"]
    trained = [said[name][0].count("val_loss") for name in ("worker1", "worker2")]
    assert sum(trained) == 6 and all(trained)
    assert "test: accuracy" in said["chief"][0]
    assert "the chief trains the winner" in said["worker1"][0]


@pytest.mark.parametrize("count", [10, 60])
def test_importance_finds_what_matters(count):
    rng = np.random.default_rng(0)
    places, kinds = rng.uniform(size=(2, count)), rng.integers(0, 3, count)
    axes = [importance.Axis(name, p, (), ("", "")) for name, p in zip(("lr", "noise"), places)]
    axes.append(importance.Axis("optimizer", kinds / 2, ("a", "b", "c"), ("", "")))
    scores = 5 * np.abs(places[0] - 0.1) + (kinds == 1) + rng.normal(size=count) * 0.05
    found, method = importance.importance(axes, scores)
    assert method == ("forest" if count > importance.MIN_TRIALS_FOR_FOREST else "ranks")
    assert [name for name, _ in found] == ["lr", "optimizer", "noise"]
    assert all(0 <= value <= 1 for _, value in found)


def test_many_options_are_no_merit():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        many, scores = rng.permutation(np.repeat(np.arange(10), 2)), rng.normal(size=20)
        axis = importance.Axis("many", many / 9, tuple("abcdefghij"), ("", ""))
        found.append(importance.importance([axis], scores)[0][0][1])
    assert np.mean(found) < 0.3  # 0.68 without the correction
    axis = importance.Axis("each", np.arange(10) / 9, tuple("abcdefghij"), ("", ""))
    assert importance.importance([axis], rng.normal(size=10))[0] == [("each", 0.0)]


def test_the_winner_is_gated_and_measured_as_todays_command_says(tmp_path):
    stored = Config(baseline="saved_models/a/1", gate=True, robustness="quick", phases="head", run_dir="x")
    (tmp_path / "trials" / "0").mkdir(parents=True)
    (tmp_path / "trials" / "0" / "config.json").write_text(json.dumps(asdict(stored)))
    results = {"best": {"trial": "0"}, "winner_phases": ""}
    today = Config(robustness="full", warmup=False)
    found = search._winner_config(today, tmp_path, results)
    assert (found.phases, found.run_dir) == ("head", str(tmp_path / "best"))
    assert (found.baseline, found.gate, found.robustness, found.warmup) == ("", False, "full", False)


def test_the_page_bears_few_trials_and_odd_names(tmp_path):
    row = {"trial": "0", "values": {"backbone": "'a<b>.keras'", "lr": 1e-3}, "score": 0.5, "status": "COMPLETED"}
    row |= {"seconds": 1.0, "epochs": 1, "error": None, "measures": {"val_loss": 0.5}}
    failed = row | {"trial": "1", "score": None, "status": "FAILED", "error": "<b>", "measures": {}}
    found = {"search": "<x>", "tuner": "grid", "objective": "val_loss", "direction": "min", "seconds": 2.0}
    for trials in ([row], [failed], [row, row | {"trial": "2", "score": 0.4}, failed]):
        done = [one for one in trials if one["score"]]
        best = {"trial": "0", "values": row["values"], "score": 0.5, "run_dir": "r/best"} if done else None
        (tmp_path / "tune.json").write_text(json.dumps({**found, "trials": trials, "best": best}))
        report.write_search(tmp_path)
        page = Page((tmp_path / "tune.html").read_text())
        assert not page.open and not page.loose
        assert "<x>" in page.text["code"]


def test_the_page_of_a_finished_search_names_where_its_winner_is_now(tmp_path, monkeypatch):
    row = {"trial": "0", "values": {"lr": 1e-3}, "score": 0.5, "status": "COMPLETED", "seconds": 1.0, "epochs": 1}
    row |= {"error": None, "measures": {"val_loss": 0.5}}
    best = {"trial": "0", "values": row["values"], "score": 0.5, "run_dir": "r/best"}
    found = {"search": "x", "tuner": "grid", "objective": "val_loss", "winner_phases": ""}
    results = {**found, "direction": "min", "seconds": 2.0, "trials": [row], "best": best, "finished": True}
    (tmp_path / "tune.json").write_text(json.dumps(results))
    (tmp_path / "trials" / "0").mkdir(parents=True)
    (tmp_path / "trials" / "0" / "config.json").write_text(json.dumps(asdict(Config())))
    (tmp_path / "best").mkdir()

    def published(config):
        metrics = {"test": {"n": 9, "accuracy": 0.5}, "export": {"path": f"{config.export_dir}/x/1"}}
        (tmp_path / "best" / "metrics.json").write_text(json.dumps(metrics))

    published(Config())
    report.write_search(tmp_path)
    assert "saved_models/x/1" in (tmp_path / "tune.html").read_text()
    monkeypatch.setattr(search.train, "train", published)
    monkeypatch.setattr(search, "_open_folder", lambda *_: results)
    search._search(Config(export_dir="elsewhere"), found, None, (), tmp_path, "alone", None)
    text = (tmp_path / "tune.html").read_text()
    assert "elsewhere/x/1" in text and "saved_models/x/1" not in text


def test_the_winner_of_several_targets_is_told_by_each(tmp_path):
    row = {"trial": "0", "values": {"lr": 1e-3}, "score": 0.5, "status": "COMPLETED", "seconds": 1.0, "epochs": 1}
    row |= {"error": None, "measures": {"val_loss": 0.5}}
    found = {"search": "x", "tuner": "grid", "objective": "val_loss", "direction": "min", "seconds": 2.0}
    best = {"trial": "0", "values": row["values"], "score": 0.5, "run_dir": "r/best"}
    (tmp_path / "tune.json").write_text(json.dumps({**found, "trials": [row], "best": best}))
    test = {"n": 9, "mae": 8651.0, "per_target": {"price": {"mae": 17302.0}, "share": {"mae": 0.0005}}}
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "metrics.json").write_text(json.dumps({"test": test, "export": {"path": "p"}}))
    report.write_search(tmp_path)
    text = (tmp_path / "tune.html").read_text()
    assert "mean absolute error “price” 17,302, “share” 0.0005" in text and "8651" not in text
    of_quantile = {"test": test | {"quantile": 0.9, "pinball": 0.4321, "coverage": 0.88}, "export": {"path": "p"}}
    (tmp_path / "best" / "metrics.json").write_text(json.dumps(of_quantile))
    report.write_search(tmp_path)
    text = (tmp_path / "tune.html").read_text()
    assert "mean pinball loss 0.432, coverage 88.0%" in text and "mean absolute error" not in text


def test_every_objective_has_a_direction():
    assert all(set(found.values()) <= {"min", "max"} for found in hypermodel.OBJECTIVES.values())
    assert hypermodel.OBJECTIVES["regression"].keys() == {"loss", "mae", "scaled_mae", "rmse", "r2"}


@pytest.mark.large
def test_all_trials_frame_as_auto_chose_for_wide_images(tiny, tmp_path, monkeypatch):
    for seed, name in enumerate(("disc", "square")):
        for index in range(6):
            path = tmp_path / "wide" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(10 * seed + index).integers(0, 256, (32, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    config = Config(data=f"folder:{tmp_path / 'wide'}", backbone=tiny, phases="head(epochs=1)", precision="float32")
    made = kerasft.HyperModel(config, "lr=log(1e-4, 1e-2)", tmp_path / "search")
    assert made.framing == framing_choice.UNMEASURED
    assert made.data(32, "auto", None).train.framing == made.framing
    assert made.data(32, "pad", None).train.framing == "pad"


@pytest.mark.large
def test_a_search_that_goes_on_has_the_splits_of_its_start(tiny, tmp_path):
    """Some wide images are copies of square ones where the centre is cut out, and not where they are squashed."""
    for seed, name in enumerate(("disc", "square")):
        folder = tmp_path / "wide" / name
        folder.mkdir(parents=True)
        for index in range(12):
            pixels = np.random.default_rng(100 * seed + index).integers(0, 256, (32, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
            if index < 6:
                Image.fromarray(pixels[:, 32:64]).save(folder / f"centre{index}.png")
    config = Config(data=f"folder:{tmp_path / 'wide'}", backbone=tiny, phases="head(epochs=1)", precision="float32")
    before, after = (
        kerasft.HyperModel(config, "lr=log(1e-4, 1e-2)", tmp_path / "search").data(32, "auto", None) for _ in range(2)
    )
    assert before.train.framing == after.train.framing == "squash"
    assert before.digest == after.digest
    for name in SPLITS:
        assert getattr(before, name).ids.tolist() == getattr(after, name).ids.tolist()


@pytest.mark.large
def test_a_list_of_backbones_is_chosen_from_once_for_all_trials(tiny, tmp_path, monkeypatch):
    settings = {"data": "generated:3x20", "image_size": 32, "precision": "float32", "phases": "head(epochs=1)"}
    other = shutil.copy(tiny, tmp_path / "other.keras")
    config = Config(**settings, backbone=f"{tiny} | {other}", framing="crop")
    chosen = hypermodel.HyperModel(config, "lr=log(1e-3, 1e-2)", tmp_path)
    assert len(resolved_settings.read(tmp_path).backbone_table) == 2
    assert chosen.config.backbone == tiny  # of equals, the first
    assert chosen.data(32, "crop", None).train.images is not None
    monkeypatch.setattr(backbone.backbone_choice, "choose", lambda *_: pytest.fail("chosen again"))
    assert hypermodel.HyperModel(config, "lr=log(1e-3, 1e-2)", tmp_path).config.backbone == chosen.config.backbone
    searched = hypermodel.HyperModel(config, f"backbone=choice('{tiny}', '{other}')", tmp_path / "searched")
    assert searched.config.backbone == config.backbone


def test_what_a_start_without_trials_resolved_does_not_hold_for_the_next(tmp_path):
    options = {"search": SPACE, "tuner": "random", "objective": "val_acc", "winner_phases": ""}
    assert search._open_folder(tmp_path, Config(backbone="MobileNetV2"), options, None) is None
    for name in ("settled.json", "audit.json"):
        (tmp_path / name).write_text("{}")
    assert search._open_folder(tmp_path, Config(backbone="MobileNet"), options, 3.0) is None
    assert not (tmp_path / "settled.json").exists() and not (tmp_path / "audit.json").exists()
    flags = (tmp_path / "run.flags").read_text()
    assert "--backbone=MobileNet\n" in flags and "--budget_minutes=3.0\n" in flags
    # The marker is there as long as anything is removed.
    (tmp_path / "tuner").mkdir()
    search._open_folder(tmp_path, Config(backbone="MobileNet", resume=False), options, None)
    assert not (tmp_path / "tuner").exists() and (tmp_path / "search.json").is_file()
