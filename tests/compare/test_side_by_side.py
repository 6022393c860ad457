"""`--mode=compare`: rows, failures, budget, resume, the winner, and the page. Some through the real command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from finished import CASES, run_folder
from pages import Page

from kerasft.compare import rows, side_by_side, table
from kerasft.data.listing import Listing
from kerasft.evaluation.pinball import pinball
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

SMALL = ("--weights=none", "--image_size=32", "--batch_size=16", "--precision=float32", "--augment=none")
THREE = "head; top(0.3); all"


@pytest.fixture
def entries(monkeypatch):
    """Stands for the processes of the entries: made-up run folders. Returns what was run; `told` says how each ends."""
    ran, told = [], {"validation": {}, "reason": {}, "status": {}}

    def run(task, config, result, output=None):
        name = config.phases
        ran.append((task, name))
        if task == "export":
            run_folder(Path(config.run_dir), "single_label", ["disc", "square"])
            return 0
        if name in told["reason"]:
            Path(result).write_text(json.dumps({"reason": told["reason"][name]}))
            return 2
        if name in told["status"]:
            output.write(b"Traceback\nValueError: no such thing\n\n")
            return told["status"][name]
        metrics = run_folder(Path(config.run_dir), "single_label", ["disc", "square"])
        (Path(config.run_dir) / "metrics.json").unlink()
        metrics["val"]["loss"] = told["validation"].get(name, 0.5)
        values = {"figures": {"test": metrics["test"], "val": metrics["val"]}, "phases": metrics["phases"]}
        values |= {"seconds": {"train": 50.0, "total": 60.0}, "parameters": 9, "stored_bytes": 4_000_000}
        Path(result).write_text(json.dumps(values | {"images_per_second": 300.0, "peak_rss_mb": 900.0}))
        return 0

    monkeypatch.setattr(side_by_side.process, "run", run)
    return ran, told


def compared(folder: Path, strategies: str = THREE, **settings) -> dict:
    config = Config(data="generated:2x20", run_dir=str(folder), **settings)
    assert side_by_side.compare(config, strategies) == 0
    return json.loads((folder / "compare.json").read_text())


def test_the_rows_hold_the_contract(entries, tmp_path):
    found = compared(tmp_path / "c")
    assert found["baseline"] == "head"
    contract = {"strategy", "accuracy", "loss", "interval", "difference", "seconds", "peak_rss_mb"}
    contract |= {"trained_parameters", "stored_bytes", "images_per_second", "loss_interval", "loss_difference"}
    for row in found["rows"]:
        assert contract <= row.keys()
        assert row["interval"][0] < row["accuracy"] < row["interval"][1]
    first, *others = found["rows"]
    assert (first["difference"], first["loss_difference"]) == (None, None)
    # The made-up runs are the same.
    assert all((row["difference"]["value"], row["loss_difference"]["value"]) == (0, 0) for row in others)


def test_the_best_by_validation_is_exported_and_of_equals_the_first(entries, tmp_path):
    ran, told = entries
    told["validation"] = {"top(0.3)": 0.2, "all": 0.2}
    found = compared(tmp_path / "c")
    assert found["winner"]["strategy"] == "top(0.3)"
    assert ran[-1] == ("export", "top(0.3)")
    assert found["winner"]["export"] == "saved_models/my set/1"
    assert found["finished"]


def test_an_entry_that_fails_is_a_row_with_its_reason(entries, tmp_path, capsys):
    ran, told = entries
    told["reason"]["top(0.3)"] = "--phases: no. Received: 'top'"
    told["status"] = {"all": 1, "bias": -9}
    found = compared(tmp_path / "c", f"{THREE}; bias; norm")
    reasons = {row["strategy"]: row["reason"] for row in found["rows"] if row["status"] == rows.FAILED}
    assert reasons["top(0.3)"] == "--phases: no. Received: 'top'"
    assert "status 1: ValueError: no such thing" in reasons["all"]
    assert "signal 9, perhaps for lack of memory" in reasons["bias"]
    assert [row["status"] for row in found["rows"]][-1] == rows.FINISHED
    assert "--phases: no. Received: 'top'" in capsys.readouterr().out
    assert "--phases: no." in (tmp_path / "c" / "compare.html").read_text()
    # What failed is tried again, and nothing else.
    del ran[:]
    told["reason"], told["status"] = {}, {}
    found = compared(tmp_path / "c", f"{THREE}; bias; norm")
    assert [name for task, name in ran if task == "score"] == ["top(0.3)", "all", "bias"]
    assert {row["status"] for row in found["rows"]} == {rows.FINISHED}


def test_without_the_first_there_are_figures_but_no_differences(entries, tmp_path):
    _, told = entries
    told["reason"]["head"] = "no"
    found = compared(tmp_path / "c")
    assert [row.get("difference") for row in found["rows"]] == [None, None, None]
    assert "accuracy" in found["rows"][1]


def test_a_mistake_of_all_entries_ends_it_after_two(entries, tmp_path):
    ran, told = entries
    told["reason"] = dict.fromkeys(("head", "top(0.3)", "all"), "--data: no image. Received: 'x'")
    with pytest.raises(UserError, match="--data: no image"):
        compared(tmp_path / "c")
    assert len(ran) == 2


def test_no_entry_begins_that_would_not_fit_and_a_larger_budget_goes_on(entries, tmp_path):
    ran, _ = entries
    compared(tmp_path / "c", "head; all")
    # Each of the two has taken 60 seconds.
    found = compared(tmp_path / "c", f"{THREE}; bias", budget_minutes=1.5)
    assert [row["status"] for row in found["rows"]] == [rows.FINISHED, rows.NOT_BEGUN, rows.FINISHED, rows.NOT_BEGUN]
    assert "of 1.5 minutes are spent" in found["rows"][1]["reason"]
    del ran[:]
    found = compared(tmp_path / "c", f"{THREE}; bias", budget_minutes=100)
    assert [name for task, name in ran if task == "score"] == ["top(0.3)", "bias"]
    assert {row["status"] for row in found["rows"]} == {rows.FINISHED}


def test_the_budget_counts_interrupted_and_failed_entries(entries, tmp_path, monkeypatch):
    ran, told = entries
    clock, working = [0.0], side_by_side.process.run
    monkeypatch.setattr(side_by_side, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def run(task, config, *rest):
        clock[0] += 3600.0
        if config.phases == "top(0.3)":
            raise KeyboardInterrupt
        return working(task, config, *rest)

    told["reason"]["head"] = "no"
    with monkeypatch.context() as patched:
        patched.setattr(side_by_side.process, "run", run)
        with pytest.raises(KeyboardInterrupt):
            compared(tmp_path / "c", budget_minutes=200)
    del ran[:]
    # Two hours are spent.
    with pytest.raises(UserError, match=r"--budget_minutes: 120\.0 minutes are spent, and no entry has finished"):
        compared(tmp_path / "c", budget_minutes=110)
    assert not ran
    told["reason"].clear()
    found = compared(tmp_path / "c", budget_minutes=120.5)
    assert [row["status"] for row in found["rows"]] == [rows.FINISHED] + [rows.NOT_BEGUN] * 2
    assert found["rows"][2]["reason"].startswith("120.0 of 120.5 minutes")
    ran.clear()
    compared(tmp_path / "c", resume=False, budget_minutes=110)
    assert len(ran) == 4


def test_a_finished_comparison_is_only_shown_and_noresume_runs_it_again(entries, tmp_path, capsys):
    ran, _ = entries
    compared(tmp_path / "c")
    del ran[:]
    capsys.readouterr()
    compared(tmp_path / "c")
    assert not ran
    assert "nothing to do" in capsys.readouterr().out
    compared(tmp_path / "c", resume=False)
    assert len(ran) == 4


def test_a_finished_comparison_does_what_later_flags_ask_of_its_winner(entries, tmp_path):
    ran, _ = entries
    compared(tmp_path / "c")
    ran.clear()
    found = compared(tmp_path / "c", robustness="quick")
    assert ran == [("export", found["winner"]["strategy"])]
    assert found["config"]["robustness"] == "quick" and found["finished"]
    compared(tmp_path / "c", robustness="quick")
    assert len(ran) == 1
    compared(tmp_path / "c", robustness="quick", export_dir=str(tmp_path / "other"))
    assert ran[1:] == [("export", found["winner"]["strategy"])]


def test_a_name_in_brackets_is_no_markup(entries, tmp_path, capsys):
    found = compared(tmp_path / "c")
    capsys.readouterr()
    table.show(found | {"data": "set[bold]"})
    assert "Test of set[bold], with" in capsys.readouterr().out


def test_entries_on_other_images_are_not_compared(entries, tmp_path, monkeypatch):
    """Whether the comparison is finished or not."""
    changed = []

    def refuse_changes(config, listing, place):
        changed.append(place.name)
        raise UserError("--data: has changed since the run began. Received: 'x'")

    compared(tmp_path / "c")
    monkeypatch.setattr(side_by_side, "refuse_changes", refuse_changes)
    for strategies in (THREE, f"{THREE}; bias"):
        with pytest.raises(UserError, match="has changed since"):
            compared(tmp_path / "c", strategies)
    assert len(set(changed)) == 1 and (tmp_path / "c" / "entries" / changed[0]).is_dir()


def test_a_folder_of_something_else_is_refused(entries, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    with pytest.raises(UserError, match="no folder of a comparison"):
        compared(tmp_path / "full")
    compared(tmp_path / "c")
    with pytest.raises(UserError, match=r"another comparison \(seed: 0 then, 3 now\)"):
        compared(tmp_path / "c", seed=3)


def test_the_page_is_whole_and_says_what_the_rows_say(entries, tmp_path):
    _, told = entries
    told["reason"]["all"] = "<script>alert(1)</script>"
    compared(tmp_path / "c", "<b>: head; top(0.3); all".replace("<b>", "b"))
    page = Page((tmp_path / "c" / "compare.html").read_text())
    assert (page.open, page.loose, page.addresses) == ([], [], [])
    assert not {"script", "link", "img"} & {tag for tag, _ in page.tags}
    assert all(text in page.text["table"] for text in ("top(0.3)", "4.00 MB", "900 MB", "300", "½"))
    assert "<script>alert(1)</script>" in page.text["li"]
    assert "saved_models/my set/1" in page.text["header"]


def test_a_quantile_is_compared_by_its_pinball_loss(entries, tmp_path, monkeypatch, capsys):
    """The second entry slips to the median of the errors, and lowers the absolute error."""

    def run(task, config, result, output=None):
        place = Path(config.run_dir)
        metrics = run_folder(place, *CASES["angle"], quantile=0.9)
        if task == "export":
            return 0
        with np.load(place / "predictions.npz") as stored:
            arrays = dict(stored)
        share = 0.9 if config.phases == "head" else 0.5
        values = arrays["values"] + np.quantile(arrays["labels"] - arrays["values"], share)
        np.savez(place / "predictions.npz", **arrays | {"values": values.astype(np.float32)})
        metrics["test"]["pinball"] = float(pinball(arrays["labels"] - values, 0.9).mean())
        (place / "metrics.json").unlink()
        told = {"figures": {"test": metrics["test"], "val": metrics["val"]}, "phases": metrics["phases"]}
        told |= {"seconds": {"train": 50.0, "total": 60.0}, "parameters": 9, "stored_bytes": 4_000_000}
        Path(result).write_text(json.dumps(told | {"images_per_second": 300.0, "peak_rss_mb": 900.0}))
        return 0

    monkeypatch.setattr(side_by_side.process, "run", run)
    none = np.zeros(0)
    listing = Listing("x", "regression", none, none, none, ("angle",), lambda index: b"")
    monkeypatch.setattr(side_by_side.sources, "load", lambda config: listing)
    found = compared(tmp_path / "c", "head; all", loss="pinball(0.9)")
    assert found["score"] == "pinball" and found["rows"][1]["difference"]["interval"][0] > 0
    assert all(row["interval"][0] < row["pinball"] < row["interval"][1] and "mae" not in row for row in found["rows"])
    page = (tmp_path / "c" / "compare.html").read_text()
    assert "Mean pinball loss" in page and '<span class="mark no">worse</span>' in page and ">better<" not in page
    assert "2 of 2: all: pinball " in capsys.readouterr().out


def test_several_targets_are_compared_in_deviations():
    result = {"figures": {"test": {"per_target": {"a": {"deviation": 2.0}, "b": {"deviation": 0.0}}}}}
    np.testing.assert_array_equal(rows.deviations(result, ["a", "b"]), [2.0, 1.0])
    assert rows.deviations({"figures": {"test": {}}}, ["a"]) is None


def _line(data: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "kerasft.run", "--mode=compare", f"--data={data}", "--run_dir=c", *SMALL, *more]


@pytest.mark.large
@pytest.mark.parametrize("task", ["photos", "two_digits", "angles"])
def test_the_command_compares_trains_and_exports(task, request, tmp_path):
    data = request.getfixturevalue(task)
    strategies = "--strategies=head(epochs=0); slow: all(epochs=1, lr=1e-5); bias(epochs=1); --head=mlp(units=0)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(_line(str(data), strategies), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert [row["status"] for row in found["rows"]] == [rows.FINISHED] * 3 + [rows.FAILED]
    assert "units must be whole numbers" in found["rows"][-1]["reason"]
    best = min(found["rows"][:3], key=lambda row: row["validation_loss"])
    assert found["winner"]["strategy"] == best["strategy"]
    metrics = json.loads((tmp_path / best["run_dir"] / "metrics.json").read_text())
    # The exported network is the one that was compared.
    assert metrics["test"]["loss"] == pytest.approx(best["loss"], abs=1e-6)
    assert (tmp_path / found["winner"]["export"] / "saved_model.pb").is_file()
    assert len(list((tmp_path / "saved_models").glob("*/*"))) == 1
    assert not (tmp_path / "c" / "cache").exists()
    head, slow, bias = found["rows"][:3]
    assert head["trained_parameters"] < bias["trained_parameters"] < slow["trained_parameters"]
    assert bias["stored_bytes"] < slow["stored_bytes"]
    assert min(row["peak_rss_mb"] for row in (head, slow, bias)) > 300


@pytest.mark.large
def test_killed_and_started_again_it_repeats_no_finished_entry(photos, tmp_path):
    line = _line(str(photos), "--strategies=head(epochs=0); all(epochs=400, lr=1e-5); bias(epochs=1)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    place = tmp_path / "c" / "entries"
    deadline = time.monotonic() + 300
    while not list(place.glob("all-*/checkpoint-*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    (first,) = place.glob("head-*.json")
    before = first.stat().st_mtime_ns
    # The entry has ended with the command, so that its folder is free.
    again = subprocess.run(
        _line(
            str(photos), "--strategies=head(epochs=0); all(epochs=400, lr=1e-5); bias(epochs=1)", "--budget_minutes=30"
        ),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (again.returncode, again.stderr) == (0, ""), again.stdout
    assert first.stat().st_mtime_ns == before
    assert "going on where the run was stopped" in next(place.glob("all-*.log")).read_text()
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert {row["status"] for row in found["rows"]} == {rows.FINISHED}
