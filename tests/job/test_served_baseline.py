"""`--baseline` and `--gate`: what can be compared, what is refused, and that nothing refused is published."""

import json
import shutil
from dataclasses import replace

import exported
import numpy as np
import pytest
from conftest import write
from tables import first_cells

from kerasft.export import model_folders
from kerasft.job import served_baseline, train
from kerasft.job.served_baseline import GateError
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

QUICK = {"phases": "head(epochs=0)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}
PLACES = {"tensorboard": False, "warmup": False}
NAMES = exported.NAMES["single_label"]


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """The folder of a model of three classes, with a version 1."""
    return exported.saved_model("single_label", tiny, tmp_path_factory)


def _open(baseline, classes=NAMES, task="single_label"):
    return served_baseline.open_baseline(Config(baseline=str(baseline)), task, classes)


def test_classes_are_matched_by_name(served):
    found = _open(served / "1", tuple(reversed(NAMES)))
    assert found.columns.tolist() == [2, 1, 0]
    assert found.path == served / "1"
    assert served_baseline.open_baseline(Config(), "single_label", NAMES) is None


def test_a_run_folder_stands_for_what_it_exported(served, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"export": {"path": str(served / "1")}}))
    assert _open(tmp_path).path == served / "1"
    # Its version was moved away, and another run has its number.
    moved = {"export": {"path": str(served / "1")}, "run": "moved", "weights_sha256": "sum"}
    (tmp_path / "metrics.json").write_text(json.dumps(moved))
    with pytest.raises(UserError, match=r"is not there .*; there are the versions 1. Received"):
        _open(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"export": {"path": str(served / "7")}}))
    with pytest.raises(UserError, match=r"is not there .*; there are the versions 1. Received"):
        _open(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "must name one version; there are .*/1. Received"),
        ("9", "there is no such version; there are the versions 1. Received"),
        ("../nowhere", ".*folder of a finished run; there are models of the names .*the single_label.*Received"),
    ],
)
def test_a_missing_model_names_what_there_is(served, place, message):
    with pytest.raises(UserError, match=f"--baseline: {message}"):
        _open(served / place)


def test_another_task_or_other_classes_are_refused(served, tmp_path):
    with pytest.raises(UserError, match="is a model for single_label, and the data are regression"):
        _open(served / "1", task="regression")
    rule = "it does not know “bee”, and the data have no “square” and “käfer”"
    with pytest.raises(UserError, match=rule):
        _open(served / "1", ("disc", "bee"))
    shutil.copytree(served / "1", tmp_path / "1")
    (tmp_path / "1" / model_folders.METADATA_FILE).unlink()
    with pytest.raises(UserError, match="must be a model that kerasft has exported"):
        _open(tmp_path / "1")


def test_a_damaged_model_is_said(served, tmp_path):
    shutil.copytree(served / "1", tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"words")
    with pytest.raises(UserError, match="--baseline: the SavedModel cannot be loaded"):
        _open(tmp_path / "1")


def test_a_gate_needs_a_baseline():
    with pytest.raises(UserError, match="--gate: needs --baseline=saved_models/NAME/VERSION"):
        Config(gate=True)


@pytest.mark.large
def test_a_better_baseline_keeps_the_new_model_from_being_published(tiny, tmp_path, capsys, monkeypatch):
    """A run, one that the gate refuses, killed once; the same again, and the same without the gate."""
    data = tmp_path / "colours"
    rng = np.random.default_rng(0)
    for name in ("disc", "square"):
        for index in range(60):
            write(data / name / f"{index}.png", name, int(rng.integers(2**31)))
    exports = tmp_path / "saved_models"
    base = Config(**QUICK, **PLACES, data=f"folder:{data}", backbone=tiny, export_dir=str(exports))
    first = train.train(replace(base, run_dir=str(tmp_path / "first")))
    assert "baseline" not in first.metrics
    path = first.metrics["export"]["path"]
    # A head of zeros gives every class the same probability.
    worse = replace(base, head_init="zeros", run_dir=str(tmp_path / "worse"), baseline=path, gate=True)
    with monkeypatch.context() as patched:
        # As if the process were killed when the model is refused and the run is not recorded yet.
        patched.setattr(train.report, "write_report", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            train.train(worse)
    assert not (tmp_path / "worse" / "metrics.json").exists()
    for _ in range(2):
        with pytest.raises(GateError, match="--gate: the new model is worse than --baseline, so it is not published"):
            train.train(worse)
        assert [version.name for version in model_folders.versions(exports / "colours")] == ["1"]
    metrics = json.loads((tmp_path / "worse" / "metrics.json").read_text())
    found = metrics["baseline"]
    assert metrics.keys() <= first_cells("metrics.md")
    assert (
        found["asked"] and not found["gate"]["passed"] and found["after"]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    )
    assert found["lost"] > found["gained"]
    assert metrics["export"]["published"] is False
    assert [path.name for path in model_folders.versions(tmp_path / "worse" / "unpublished" / "colours")] == ["1"]
    page = (tmp_path / "worse" / "report.html").read_text()
    assert "--gate refused the new model" in page and 'id="baseline"' in page
    assert {"predictions.npz", "baseline.npz", "model.keras"} <= {one.name for one in (tmp_path / "worse").iterdir()}
    published = train.train(replace(worse, gate=False)).metrics
    assert published["export"]["path"] == (exports / "colours" / "2").as_posix()
    assert not (tmp_path / "worse" / "unpublished").exists()
    # Another baseline of a finished run is compared without training: with itself.
    again = train.train(replace(worse, gate=True, baseline=str(tmp_path / "worse"))).metrics
    assert again["baseline"]["same"] and again["baseline"]["gate"]["passed"]
    assert "baseline: " in capsys.readouterr().out


@pytest.mark.large
@pytest.mark.parametrize(("data", "task"), [("two_digits", "multi_label"), ("angles", "regression")])
def test_other_tasks(data, task, tiny, tmp_path, request):
    """A run beside one on other images of the same classes."""
    base = Config(
        **QUICK, **PLACES, data=f"csv:{request.getfixturevalue(data)}", backbone=tiny, export_dir=str(tmp_path / "out")
    )
    train.train(replace(base, run_dir=str(tmp_path / "first")))
    second = replace(base, run_dir=str(tmp_path / "second"), baseline=str(tmp_path / "first"), features="2")
    found = train.train(second).metrics["baseline"]
    assert found["n"] > 40 and found["classes"] and not found["same"]
    loss = found["after"]["loss"] - found["before"]["loss"]
    assert found["loss_difference"][0] == pytest.approx(loss, abs=1e-9)
    own = json.loads((tmp_path / "second" / "metrics.json").read_text())["test"]
    assert found["after"]["loss"] == pytest.approx(own["loss"], rel=1e-3)
    assert (found["lost"] + found["gained"] > 0) == (task == "multi_label")


@pytest.mark.parametrize(("classes", "title"), [(["a"], "error 2.0000"), (["a", "b"], "error in deviations 2.0000")])
def test_the_line_says_where_errors_are_in_deviations(capsys, classes, title):
    found = {"path": "m/1", "difference": [-0.5, -0.6, -0.4], "loss_difference": [-0.1, -0.2, 0.0]}
    for score, words in (("mae", f"mean absolute {title}"), ("pinball", "mean pinball loss 2.0000")):
        found |= {"before": {score: 2.0, "loss": 0.4}, "after": {score: 1.5, "loss": 0.3}}
        served_baseline.summarise({"task": "regression", "classes": classes, "baseline": found})
        assert f"baseline: m/1: {words} to 1.5000, -0.500" in capsys.readouterr().out
