"""Finished runs side by side: the figures are those of the runs, names are harmless, damage is named."""

import json

import numpy as np
import pytest
from finished import CASES, HOSTILE, run_folder
from pages import Page

from kerasft import commands
from kerasft.evaluation import intervals
from kerasft.evaluation.score_names import ERRORS
from kerasft.report import runs_page
from kerasft.settings.errors import UserError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run folders of the three tasks, one of a search's winner, and one that is damaged."""
    root = tmp_path_factory.mktemp("runs")
    metrics = {
        case: run_folder(root / case, *CASES[case]) for case in ("two", "ten", "hostile", "labels", "angle", "targets")
    }
    run_folder(root / "search" / "best", *CASES["sixty"])
    (root / "damaged").mkdir()
    (root / "damaged" / "metrics.json").write_text("{")
    (root / "not finished").mkdir()
    return root, metrics


def test_the_figures_are_those_of_the_runs(finished):
    root, metrics = finished
    found, damaged = runs_page.find(root)
    rows = {row.folder.name: row for row in found}
    assert set(rows) == {*metrics, "best"}
    assert [row.folder.name for row in damaged] == ["damaged"]
    two = rows["two"]
    test = metrics["two"]["test"]
    assert (two.score, two.value, two.n, two.loss) == ("accuracy", test["accuracy"], test["n"], test["loss"])
    assert (two.low, two.high) == intervals.wilson(round(test["accuracy"] * test["n"]), test["n"])
    assert (two.data, two.export, two.seconds) == ("my set", "saved_models/my set/1", 3700.0)
    assert all(row.low <= row.value <= row.high for row in found)


def test_the_best_comes_first_and_groups_hold_what_compares(finished):
    found, _ = runs_page.find(finished[0])
    for (data, score, n), rows in runs_page.groups(found):
        assert {(row.data, row.score, row.n) for row in rows} == {(data, score, n)}
        values = [row.value if score in ERRORS else -row.value for row in rows]
        assert values == sorted(values)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    run_folder(tmp_path / "runs" / "two", *CASES["two"])
    commands.run("runs", ["~/runs", "--out=~/runs.html"])
    assert (tmp_path / "runs.html").is_file()
    assert capsys.readouterr().out.endswith(f"Written: {tmp_path / 'runs.html'}\n")


def test_the_table_and_the_page(finished, tmp_path, capsys):
    commands.run("runs", [str(finished[0]), f"--out={tmp_path / 'runs.html'}"])
    printed = capsys.readouterr().out
    assert "not read" in printed and "1 h 1 min" in printed
    page = Page((tmp_path / "runs.html").read_text())
    assert not page.loose and not page.open and not page.addresses
    assert not {"script", "link", "img"} & {tag for tag, _ in page.tags}
    assert "saved_models/<wbr>my set/<wbr>1" in page.source
    for row in runs_page.find(finished[0])[0]:
        assert str(row.folder) in page.text["th"] and str(row.folder) in printed


def test_a_run_without_an_interval_and_the_winner_of_a_comparison(tmp_path, capsys):
    metrics = run_folder(tmp_path / "compared" / "entries" / "head", *CASES["angle"])
    run_folder(tmp_path / "other", *CASES["angle"])
    arrays = dict(np.load(tmp_path / "other" / "predictions.npz"))
    np.savez(tmp_path / "other" / "predictions.npz", **arrays, groups=np.zeros(len(arrays["ids"])))
    rows = {row.folder.name: row for row in runs_page.find(tmp_path)[0]}
    assert rows.keys() == {"head", "other"} and rows["head"].low < metrics["test"]["mae"] < rows["head"].high
    assert (rows["other"].low, rows["other"].high) == (None, None)
    commands.run("runs", [str(tmp_path), f"--out={tmp_path / 'runs.html'}"])
    assert "None" not in capsys.readouterr().out
    assert "nan" not in (tmp_path / "runs.html").read_text()


def test_odd_names_are_harmless(tmp_path, capsys):
    metrics = run_folder(tmp_path / "runs" / "a\x1b[2Jb", *CASES["two"])
    metrics["export"]["path"] = f"saved_models/{HOSTILE[0].replace('/', '')}/1"
    (tmp_path / "runs" / "a\x1b[2Jb" / "metrics.json").write_text(json.dumps(metrics))
    commands.run("runs", [str(tmp_path / "runs"), f"--out={tmp_path / 'runs.html'}"])
    assert "\x1b" not in capsys.readouterr().out
    assert "<script" not in (tmp_path / "runs.html").read_text()


@pytest.mark.parametrize("part", ["config.json", "predictions.npz"])
def test_a_run_without_a_file_is_named(tmp_path, part):
    run_folder(tmp_path / "one", *CASES["two"])
    (tmp_path / "one" / part).unlink()
    found, damaged = runs_page.find(tmp_path)
    assert found == [] and part in damaged[0].reason


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_file_of_predictions_is_named(tmp_path, kept):
    run_folder(tmp_path / "one", *CASES["two"])
    whole = (tmp_path / "one" / "predictions.npz").read_bytes()
    (tmp_path / "one" / "predictions.npz").write_bytes(whole[: int(len(whole) * kept)])
    (damaged,) = runs_page.find(tmp_path)[1]
    assert damaged.reason.startswith("predictions.npz is damaged (") and "Received" not in damaged.reason


def test_the_bar_is_inside_its_axis(finished):
    for _, rows in runs_page.groups(runs_page.find(finished[0])[0]):
        for row in rows:
            at = {name: float(text.rstrip("%")) for name, text in runs_page._interval_style(row, rows).items()}
            assert 0 <= at["left"] <= at["point"] <= at["left"] + at["width"] + 0.1 <= 100.2
            assert np.isfinite(list(at.values())).all()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["nowhere"], "must be a folder that has run folders. Received: 'nowhere'"),
        (["."], "this folder has no finished run. Received: '.'"),
        ([".", "--out=runs.pdf"], "--out: must end in .html or .htm. Received: 'runs.pdf'"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, typed, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        commands.run("runs", typed)
    assert message in str(raised.value)


@pytest.fixture
def of_two_targets(tmp_path):
    """Runs of a width and a mass: `a` is better in deviations, and `b` in the mean of both units. `old` is `a` of an early version."""
    rng, scale = np.random.default_rng(0), np.array([0.3, 1000.0])
    labels = rng.normal(0, 1, (60, 2)) * scale
    for name, gaps in (("a", (0.1, 0.5)), ("b", (2.0, 0.4)), ("old", (0.1, 0.5))):
        metrics = run_folder(tmp_path / name, "regression", ["width", "mass"], n=60)
        values = labels + scale * gaps * rng.normal(0, 1, (60, 2))
        errors = np.abs(values - labels)
        metrics["test"] |= {"mae": float(errors.mean()), "scaled_mae": float((errors / scale).mean())}
        for place, target in enumerate(("width", "mass")):
            metrics["test"]["per_target"][target] |= {"mae": errors[:, place].mean(), "deviation": scale[place]}
        if name == "old":
            del metrics["test"]["scaled_mae"]
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
        np.savez(tmp_path / name / "predictions.npz", ids=np.arange(60).astype(str), labels=labels, values=values)
    return tmp_path


def test_runs_of_several_targets_are_ranked_in_deviations(of_two_targets, capsys):
    found, damaged = runs_page.find(of_two_targets)
    assert [row.folder.name for row in found][-1] == "b" and not damaged
    assert {row.score for row in found} == {"scaled_mae"}
    assert all(row.low < row.value < row.high < 5 for row in found)
    commands.run("runs", [str(of_two_targets), f"--out={of_two_targets / 'runs.html'}"])
    assert "mae in deviations" in capsys.readouterr().out
    page = (of_two_targets / "runs.html").read_text()
    assert "test mean absolute error in deviations on 60 images" in page and "Log loss" not in page


def test_runs_of_a_quantile_are_ranked_by_its_pinball_loss(tmp_path, capsys):
    """And apart from those of another quantile, and of the mean. An earlier version did not record the loss."""
    for name, quantile in (("mean", None), ("low", 0.1), ("high", 0.9), ("other", 0.9)):
        metrics = run_folder(tmp_path / name, *CASES["angle"], quantile=quantile)
    # Off by more, and on the side that costs less.
    arrays = dict(np.load(tmp_path / "other" / "predictions.npz"))
    gaps = arrays["labels"] - (arrays["labels"] + np.abs(arrays["values"] - arrays["labels"]) * 1.5)
    np.savez(tmp_path / "other" / "predictions.npz", **arrays | {"values": arrays["labels"] - gaps})
    del metrics["test"]["pinball"]
    (tmp_path / "other" / "metrics.json").write_text(json.dumps(metrics))
    found = [(key[1], [row.folder.name for row in rows]) for key, rows in runs_page.groups(runs_page.find(tmp_path)[0])]
    assert found == [("mae", ["mean"]), ("pinball(0.1)", ["low"]), ("pinball(0.9)", ["other", "high"])]
    commands.run("runs", [str(tmp_path), f"--out={tmp_path / 'runs.html'}"])
    assert "pinball(0.9)" in capsys.readouterr().out
    assert "mean pinball loss of the quantile 0.9 on" in (tmp_path / "runs.html").read_text()
