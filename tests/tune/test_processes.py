"""A chief and its workers: the same settings and images, one trial at a time, and messages where one is missing."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

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
