"""Which folder `--model` and `--artefact` name, and what it says of itself. No model is loaded."""

import errno
import json
from pathlib import Path

import pytest
from unreadable import closed

from kerasft.export import model_folders
from kerasft.settings.errors import UserError


def made(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("files", "model", "artefact", "found"),
    [
        (("1/saved_model.pb", "10/saved_model.pb", "9/saved_model.pb"), "", "", "10"),
        (("1/saved_model.pb", "2/saved_model.pb"), "1", "", "1"),
        (("1/onnx/model.onnx", "2/onnx/model.onnx"), "", "", "2/onnx"),
        (("1/onnx/model.onnx", "1/litert/model.tflite"), "", "litert", "1/litert"),
        # A version whose artefact failed its proof is left out.
        (("1/onnx/model.onnx", "2/litert/model.tflite"), "", "onnx", "1/onnx"),
        (("1/onnx/model.onnx", "1/litert/model.tflite"), "1", "onnx", "1/onnx"),
        (("1/onnx/model.onnx",), "1/onnx", "", "1/onnx"),
        (("3/model.tflite",), "", "", "3"),
        (("model.xml", "model.bin"), "", "", ""),
        (("onnx/model.onnx",), "", "", "onnx"),
        (("1/onnx/model.onnx", "1/.draft-litert/model.tflite"), "", "", "1/onnx"),
    ],
)
def test_the_newest_model_is_found(tmp_path, files, model, artefact, found):
    root = made(tmp_path, *files)
    assert model_folders.newest(str(root / model), artefact) == root / found


@pytest.mark.parametrize(
    ("files", "artefact", "message"),
    [
        ((), "", "--model: must be a SavedModel, an artefact of --export, or a folder of numbered ones"),
        (("1/notes.txt",), "", "--model: must be a SavedModel"),
        (("1/onnx/model.onnx", "1/litert/model.tflite"), "", r"--artefact: .* one of litert, onnx\. Received: ''"),
        (("1/onnx/model.onnx", "2/litert/model.tflite"), "", r"--artefact: .* one of litert, onnx\. Received: ''"),
        (("1/onnx/model.onnx",), "litert", r"--artefact: must be one of onnx\. Received: 'litert'"),
        (("1/saved_model.pb",), "onnx", r"--artefact: must be empty, for .* has none\. Received: 'onnx'"),
        (("saved_model.pb",), "onnx", r"--artefact: must be empty"),
    ],
)
def test_what_is_missing_or_not_clear_is_said(tmp_path, files, artefact, message):
    with pytest.raises(UserError, match=message):
        model_folders.newest(str(made(tmp_path, *files)), artefact)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "the folder of an exported model is needed, such as saved_models/NAME"),
        ("photo", r"there is no such folder \(did you mean 'photos'\?\)"),
        ("photos/4", "there is no such folder; there are: 1, 2"),
        ("run", "must be a SavedModel.*; this is a run, and its export is photos/1"),
        ("run/model.keras", "must be a SavedModel.*; this is in a run, and its export is photos/1"),
        (".", "must be a SavedModel.*; in it: photos"),
        ("other", "must be a SavedModel, .* or a folder of numbered ones"),
    ],
)
@pytest.mark.parametrize("artefact", ["", "onnx"])
def test_what_is_no_model_is_told_what_it_is(tmp_path, monkeypatch, model, said, artefact):
    made(tmp_path, "photos/1/saved_model.pb", "photos/2/saved_model.pb", "run/model.keras", "other/notes.txt")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"export": {"path": "photos/1"}}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"--model: {said}\. Received: '{model}'"):
        model_folders.newest(model, artefact)


@pytest.mark.parametrize(
    ("files", "number"),
    [
        ((), "1"),
        (("saved_models/x/7/a", "saved_models/x/notes/a", "saved_models/x/.draft-9/a"), "8"),
        # The SavedModels 2 and 3 were removed to go back to 1.
        (("saved_models/x/1/a", "exports/x/3/onnx/model.onnx"), "4"),
        (("exports/x/3/onnx/model.onnx",), "4"),
        (("saved_models/x/10/a", "exports/x/9/a", "exports/y/20/a", "saved_models/slim/x/30/a"), "11"),
    ],
)
def test_a_number_is_not_given_again_while_artefacts_have_it(tmp_path, files, number):
    folder = made(tmp_path, *files) / "saved_models" / "x"
    assert model_folders.next_version(folder) == folder / number


def test_numbers_of_another_export_folder_do_not_count(tmp_path):
    folder = (
        made(tmp_path, "saved_models/x/10/a", "exports/x/11/onnx/model.onnx", "experiments/y/3/a") / "experiments/x"
    )
    assert model_folders.next_version(folder) == folder / "1"
    made(tmp_path, "experiments/exports/x/4/onnx/model.onnx")
    assert model_folders.next_version(folder) == folder / "5"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("unread", ["2", "2/onnx"])
def test_a_folder_that_cannot_be_read_holds_no_artefact(tmp_path, monkeypatch, unread, number):
    root = made(tmp_path, "1/onnx/model.onnx", "2/onnx/model.onnx")
    assert model_folders.read_error(root / unread) is None
    closed(monkeypatch, root / unread, number)
    assert model_folders.newest(str(root)) == root / "1/onnx"
    assert model_folders.artefacts(root / "2") == []
    assert model_folders.runtime_of(root / "2/onnx") is None
    assert model_folders.read_error(root / "2/onnx").errno == number
    assert model_folders.read_error(root / "3") is None


def test_a_folder_of_versions_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    made(tmp_path, "1/onnx/model.onnx")
    closed(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"--model: cannot be read \(Permission denied\)\. Received: "):
        model_folders.newest(str(tmp_path))


def test_an_artefact_says_what_it_is(tmp_path):
    assert model_folders.read_metadata(tmp_path) == {}
    (tmp_path / "model.json").write_text(json.dumps({"task": "regression"}))
    assert model_folders.read_metadata(tmp_path) == {}
    # U+2028 is a line to `splitlines`.
    (tmp_path / "labels.txt").write_text("käfer\na\u2028b\n", encoding="utf-8")
    assert model_folders.read_metadata(tmp_path) == {"task": "regression", "classes": ["käfer", "a\u2028b"]}
    (tmp_path / "model.json").write_text("[]")
    assert model_folders.read_metadata(tmp_path) == {}


def test_a_version_whose_number_was_given_again_is_of_another_run(tmp_path):
    version = made(tmp_path, "1/saved_model.pb", "1/onnx/model.onnx", "1/onnx/labels.txt") / "1"
    run = {"run": "a", "weights_sha256": "sum"}
    assert model_folders.of_other_runs(version, run) == []
    (version / model_folders.METADATA_FILE).parent.mkdir()
    (version / model_folders.METADATA_FILE).write_text(json.dumps({"run": "b"}))
    assert model_folders.of_other_runs(version, run) == [version]
    assert model_folders.of_other_runs(version, {"run": "b"}) == []
    (version / "onnx" / model_folders.ABOUT_FILE).write_text(json.dumps({"run": "c"}))
    assert model_folders.of_other_runs(version, {"run": "b"}) == [version / "onnx"]
    # Runs of early versions have no identifier.
    assert model_folders.of_other_runs(version, {}) == []
