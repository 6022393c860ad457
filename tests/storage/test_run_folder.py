"""The run folder: atomic files, and whose folder it is."""

import json
from dataclasses import replace

import pytest

from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    run_folder.write_json(path, {"a": 1})

    def fails(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_folder.write(path, fails)
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_folder_is_named_by_data_and_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config()
    folder, finished = run_folder.open_folder(config, "digits")
    assert (str(folder), finished) == (f"runs/digits-{config.digest()}", None)
    assert json.loads((folder / "config.json").read_text())["data"] == "digits"
    assert "--data=digits" in (folder / "run.flags").read_text()


def test_another_run_is_refused_by_the_settings_that_differ(tmp_path):
    config = Config(run_dir=str(tmp_path / "r"), batch_size=32)
    folder, _ = run_folder.open_folder(config, "digits")
    run_folder.write_json(folder / "settled.json", {})
    with pytest.raises(
        UserError, match=r"--run_dir: holds another run \(batch_size: 32 then, 8 now; seed: 0 then, 1 now\)"
    ):
        run_folder.open_folder(replace(config, seed=1, batch_size=8), "digits")
    assert run_folder.open_folder(replace(config, export_dir="elsewhere"), "digits")[1] is None


def test_a_run_that_ended_with_a_mistake_can_be_corrected(tmp_path):
    run_folder.open_folder(Config(run_dir=str(tmp_path / "r"), weights="wrong"), "digits")
    folder, _ = run_folder.open_folder(Config(run_dir=str(tmp_path / "r")), "digits")
    assert json.loads((folder / "config.json").read_text())["weights"] == Config().weights


def test_a_finished_run_gives_its_metrics_unless_it_is_to_run_again(tmp_path):
    config = Config(run_dir=str(tmp_path / "r"), batch_size=32)
    folder, _ = run_folder.open_folder(config, "digits")
    run_folder.write_json(folder / "metrics.json", {"x": 1})
    assert run_folder.open_folder(config, "digits")[1] == {"x": 1}
    assert run_folder.open_folder(replace(config, resume=False), "digits")[1] is None
    assert not (folder / "metrics.json").exists()


def test_noresume_leaves_nothing_that_was_made_of_the_old_weights(tmp_path):
    config = Config(run_dir=str(tmp_path / "r"))
    folder, _ = run_folder.open_folder(config, "digits")
    made = ("compress.html", "compress.json", "rebuilt.keras", "lr_find.html", "lr_find.json", "unlabelled.npz")
    for name in (*made, "slim/flops=0.5/slim.json"):
        run_folder.write_json(folder / name, {})
    # The figures of a range test alone do not keep other settings out.
    run_folder.open_folder(replace(config, seed=1), "digits")
    run_folder.open_folder(replace(config, resume=False), "digits")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "run.flags"]


def test_a_run_leaves_no_page_of_an_earlier_audit(tmp_path):
    config = Config(run_dir=str(tmp_path / "r"))
    run_folder.write_settings(config, tmp_path / "r")
    for resume in (True, False):
        (tmp_path / "r" / "audit.html").touch()
        folder, _ = run_folder.open_folder(replace(config, resume=resume), "digits")
        assert not (folder / "audit.html").exists()
    # That of a finished run is of the same images.
    run_folder.write_json(folder / "metrics.json", {"x": 1})
    (folder / "audit.html").touch()
    run_folder.open_folder(config, "digits")
    assert (folder / "audit.html").exists()


def test_figures_that_are_not_finite_are_null(tmp_path):
    run_folder.write_figures(tmp_path / "metrics.json", {"a": [float("nan"), 1.5], "b": (float("inf"), "NaN", 2)})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": [None, 1.5], "b": [None, "NaN", 2]}


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="is no run folder and not empty"):
        run_folder.open_folder(Config(run_dir=str(tmp_path)), "digits")


def test_history_is_cut_back_to_the_saved_state(tmp_path):
    first = run_folder.History(tmp_path / "h.jsonl", 0)
    for epoch in range(3):
        first.add({"epoch": epoch})
    again = run_folder.History(tmp_path / "h.jsonl", 2)
    again.add({"epoch": "new"})
    rows = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, "new"]
    assert again.rows == 3


def test_what_a_killed_process_left_before_its_first_result_is_no_other_folder(tmp_path):
    for name in (".lock", ".owner.json", ".config.json.part", "..owner.json.part"):
        (tmp_path / name).touch()
    assert not run_folder.is_occupied(tmp_path) and not run_folder.is_occupied(tmp_path / "missing")
    (tmp_path / "workers").mkdir()
    assert run_folder.is_occupied(tmp_path) and not run_folder.is_occupied(tmp_path, "workers")
    assert run_folder.is_occupied(tmp_path / ".lock")
