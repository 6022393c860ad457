"""Where the portable artefacts of a run are, and what is said of them."""

import importlib.util
import json
import shlex
from pathlib import Path

import pytest

from kerasft.export import model_folders
from kerasft.job import portable_export
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

needs_lite = pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="the extra 'lite' is not installed")


@needs_lite
def test_a_model_that_the_gate_refused_gets_no_portable_formats():
    assert portable_export.withheld(Config(export="savedmodel | onnx")) == {
        "onnx": {"artefact": "onnx", "published": False, "reason": "refused by --gate"}
    }


def test_rows_of_artefacts_say_what_the_last_command_has_left():
    """`compress` removes what it refuses, but nothing that stands in another folder."""
    keras, here, there = (
        {"published": True},
        {"artefact": "onnx", "path": "exports/x/1/onnx"},
        {"path": "other/x/1/onnx"},
    )
    first = {"model.keras": keras, "onnx": here | {"published": True, "reason": ""}}
    refused = {"onnx": here | {"published": False, "reason": "worse"}}
    assert portable_export.updated(first, refused) == {"model.keras": keras, **refused}
    assert portable_export.updated(first, {"onnx": refused["onnx"] | there}) == first
    assert portable_export.updated(refused, first) == first
    elsewhere = {"onnx": first["onnx"] | there}
    assert portable_export.updated(first, elsewhere) == first | elsewhere


def _model(folder: Path, run: str, marker: str = "model.onnx") -> Path:
    """A model folder that says which run it is of."""
    about = folder / (model_folders.METADATA_FILE if marker == "saved_model.pb" else model_folders.ABOUT_FILE)
    about.parent.mkdir(parents=True)
    about.write_text(json.dumps({"run": run}))
    (folder / marker).touch()
    (folder / model_folders.LABELS_FILE).touch()
    return folder


def test_the_card_goes_into_the_folders_of_this_run_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved, exports = Path("saved_models/x/1"), Path("exports/x/1")
    metrics = {"export": {"path": saved.as_posix()}, "run": "a", "weights_sha256": "sum"}
    assert portable_export.export_folders(Config(), metrics) == []
    _model(saved, "b", "saved_model.pb")
    # What `compress` of an earlier version has written.
    _model(exports / "onnx", "sum")
    assert portable_export.export_folders(Config(), metrics) == [exports]
    assert portable_export.export_folders(Config(), metrics | {"run": "b"}) == [saved, exports]
    _model(exports / "litert", "b", "model.tflite")
    assert portable_export.export_folders(Config(), metrics) == []
    del metrics["run"]
    assert portable_export.export_folders(Config(), metrics) == [saved, exports]


@pytest.mark.parametrize(
    ("path", "export_dir", "found"),
    [
        ("saved_models/x/3", "saved_models", "exports/x/3"),
        ("elsewhere/x/3", "saved_models", "exports/x/3"),
        # Not beside those of `saved_models/x/3`, which is another network.
        ("saved_models/slim/x/3", "saved_models", "saved_models/slim/exports/x/3"),
        ("saved_models/slim/x/3", "saved_models/slim", "saved_models/slim/exports/x/3"),
        ("experiments/x/3", "experiments", "experiments/exports/x/3"),
        ("/srv/experiments/x/3", "/srv/experiments", "/srv/experiments/exports/x/3"),
        ("/srv/saved_models/x/3", "/srv/saved_models", "/srv/exports/x/3"),
    ],
)
def test_where_the_artefacts_of_a_saved_model_are(path, export_dir, found):
    assert portable_export._exports(Config(export_dir=export_dir), Path(path)) == Path(found)


@pytest.mark.parametrize("there", ["saved_models/x/1", "exports/x/1/litert"])
def test_artefacts_are_not_written_beside_those_of_another_run(tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    metrics = {"export": {"path": "saved_models/x/1"}, "run": "a", "weights_sha256": "sum"}
    portable_export.refuse_other_runs(Config(), metrics)
    _model(tmp_path / there, "b", "saved_model.pb" if "saved" in there else "model.tflite")
    with pytest.raises(
        UserError, match=rf"--export_dir: version 1 is of another run there \('{there}'\); .* Received:"
    ):
        portable_export.refuse_other_runs(Config(), metrics)
    portable_export.refuse_other_runs(Config(export_dir="other/saved_models"), metrics)
    # Export folders side by side keep apart.
    portable_export.refuse_other_runs(Config(export_dir="experiments"), metrics)


def test_the_command_that_trains_for_eight_bits_is_that_of_the_run_with_one_phase_more():
    config = Config(phases="head | all(epochs=2)", export="litert(precision=int8)")
    found = shlex.split(portable_export._retrain_command(config, Path("runs/a b")))
    assert found[:3] == ["kerasft", "train", "--flagfile=runs/a b/run.flags"]
    assert found[3:5] == ["--phases=head | all(epochs=2) | quantised", "--export=litert(precision=int8)"]
    assert found[5:] == ["--run_dir=runs/a b-quantised"]
    assert portable_export._retrain_command(Config(phases="auto | quantised"), Path("run")) == ""


@needs_lite
def test_the_folder_of_portable_artefacts_is_tried_before_training(tmp_path, monkeypatch):
    (tmp_path / "exports").write_text("a file")
    exports = tmp_path / "saved_models" / "x"
    portable_export.check_folders(Config(), exports)
    with pytest.raises(OSError) as caught:
        portable_export.check_folders(Config(export="onnx"), exports)
    assert "by --export_dir" in caught.value.__notes__[0]


@needs_lite
def test_both_kinds_of_artefacts_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(export="onnx", export_dir="exports")
    portable_export.check_folders(Config(export_dir="exports"), Path("exports/x"))
    with pytest.raises(UserError, match=r"--export_dir: must not be named exports, .* Received: 'exports'"):
        portable_export.check_folders(config, Path("exports/x"))
    with pytest.raises(UserError, match=r"--export_dir: must not be named exports"):
        portable_export.refuse_other_runs(config, {"export": {"path": "exports/x/1"}})
