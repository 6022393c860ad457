"""A chief and its workers: the same settings and images, one trial at a time, and messages where one is missing."""

import json
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import keras_tuner
import pytest
from keras_tuner.src.distribute import oracle_chief, oracle_client

from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.tune import processes, search

CONFIG = Config(data="generated:2x20", phases="head(epochs=1)")
OPTIONS = {"search": "lr=log(1e-4, 1)", "tuner": "random(trials=2)", "objective": "val_loss", "winner_phases": ""}


@pytest.fixture
def worker(monkeypatch):
    for name, value in zip(processes.VARIABLES, ("127.0.0.1", "1", "worker1")):
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (CONFIG, OPTIONS | {"objective": "val_accuracy"}, "objective: 'val_loss' then, 'val_accuracy' now"),
        (replace(CONFIG, phases="head(epochs=2)"), OPTIONS, "phases: .*epochs=2"),
        (replace(CONFIG, data="generated:3x20"), OPTIONS, "data: 'generated:2x20' then, 'generated:3x20' now"),
    ],
)
def test_a_worker_with_other_flags_than_its_chief_is_refused(config, options, message, worker, tmp_path):
    run_folder.write_json(tmp_path / "search.json", processes.describe(CONFIG, OPTIONS))
    with pytest.raises(UserError, match=f"its chief has other settings .*{message}"):
        search.tune(replace(config, run_dir=str(tmp_path)), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


def test_a_worker_waits_for_its_chief_and_writes_nothing_before(worker, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "WAIT_SECONDS", 0.01)
    with pytest.raises(UserError, match="no chief has begun a search in it"):
        search.tune(replace(CONFIG, run_dir=str(tmp_path)), **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_worker_of_a_finished_search_has_nothing_to_do(worker, tmp_path, capsys):
    run_folder.write_json(tmp_path / "search.json", processes.describe(CONFIG, OPTIONS))
    run_folder.write_json(tmp_path / "tune.json", {"finished": True})
    assert search.tune(replace(CONFIG, run_dir=str(tmp_path)), **OPTIONS) is None
    assert "the search is finished" in capsys.readouterr().out


def test_processes_with_other_images_are_refused(tmp_path):
    ours, theirs = (
        processes.with_common_splits(lambda *_, digest=digest: SimpleNamespace(digest=digest), tmp_path)
        for digest in ("a", "b")
    )
    assert ours(32, "crop", None).digest == ours(32, "crop", None).digest == "a"
    assert theirs(64, "crop", None).digest == "b"
    with pytest.raises(UserError, match=r"--data: other images.*image_size=32, framing=crop.*Received: 'b'"):
        theirs(32, "crop", None)
    assert len(json.loads((tmp_path / processes.SPLITS).read_text())) == 2


def test_a_chief_may_start_after_a_worker(tmp_path):
    for name in ("workers", "tuner", "cache"):
        (tmp_path / name).mkdir()
    with search._lock_folder(tmp_path):
        pass
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="is no folder of a search"):
        search._lock_folder(tmp_path)


@pytest.mark.parametrize(("ended", "message"), [([], "no trial is in"), (["0", "1"], "no trial 0, 1 is in")])
def test_a_chief_without_the_rows_of_its_workers_says_so(ended, message, tmp_path):
    oracle = SimpleNamespace(
        end_order=ended, elapsed=lambda: 0.0, objective=keras_tuner.Objective("val_loss", "min"), max_trials=2
    )
    with pytest.raises(UserError, match=f"{message} .*trials'; the workers must share this folder"):
        search._finish(CONFIG, OPTIONS, oracle, tmp_path)


def test_a_port_that_is_taken_is_named(worker, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", address.partition(":")[2])
        with (
            pytest.raises(UserError, match=f"KERASTUNER_ORACLE_PORT: the chief cannot listen .*Received: '{address}'"),
            processes.connected("chief"),
        ):
            oracle_chief.start_server(keras_tuner.oracles.RandomSearchOracle())


def test_a_worker_whose_chief_does_not_answer_says_so(worker, monkeypatch):
    monkeypatch.setattr(oracle_client, "TIMEOUT", 0.1)
    with pytest.raises(UserError, match="no chief answers at this address"), processes.connected("worker"):
        oracle_client.OracleClient(None).create_trial("worker1")


def test_two_processes_do_not_train_one_trial(tmp_path, capsys):
    """The second one waits, and reports what the first one found."""
    entered, go_on, found = threading.Event(), threading.Event(), []
    folder = tmp_path / "trials" / "4"

    def first():
        with processes.alone_in_trial(folder):
            entered.set()
            go_on.wait(10)
            found.append("first")

    def second():
        with processes.alone_in_trial(folder):
            found.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    entered.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert found == ["first", "second"]
    assert "trial 4: another process trains it" in capsys.readouterr().out
