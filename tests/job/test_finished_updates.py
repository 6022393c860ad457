"""What a finished run is asked for later: when it is compared again, and that a refused model is published once."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from kerasft.export import model_folders
from kerasft.job import finished_updates
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_lock


def _version(folder: Path, run: str) -> Path:
    """A version folder that says which run it is of, with an empty model."""
    (folder / model_folders.METADATA_FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / model_folders.METADATA_FILE).write_text(json.dumps({"run": run}))
    (folder / model_folders.SAVED_MODEL_FILE).touch()
    return folder


def test_a_baseline_is_compared_again_once_it_is_another_model(tmp_path):
    prod, one = tmp_path / "prod", _version(tmp_path / "served" / "1", "first")
    prod.mkdir()
    (prod / "metrics.json").write_text(json.dumps({"export": {"path": str(one)}}))
    config = Config(baseline=str(prod))
    before = {"given": str(prod), "path": one.as_posix(), "run": "first"}
    assert not finished_updates.compares(Config(), {})
    assert finished_updates.compares(config, {})
    assert not finished_updates.compares(config, {"baseline": before})
    earlier = {name: value for name, value in before.items() if name != "run"}
    assert not finished_updates.compares(config, {"baseline": earlier})
    # Another run in the same version folder, and another version of the same run folder.
    _version(one, "second")
    assert finished_updates.compares(config, {"baseline": before})
    two = _version(tmp_path / "served" / "2", "first")
    (prod / "metrics.json").write_text(json.dumps({"export": {"path": str(two)}}))
    assert finished_updates.compares(config, {"baseline": before})
    (two / model_folders.SAVED_MODEL_FILE).unlink()
    with pytest.raises(UserError, match="--baseline: the SavedModel of this run is not there"):
        finished_updates.compares(config, {"baseline": before})


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The folder of a run that `--gate` refused, its Config without the gate, and a function that completes it.

    The function returns where the model is published. Pages are not written.
    """
    folder = tmp_path / "run"
    kept = _version(folder / "unpublished" / "set" / "1", "refused")
    found = {"asked": True, "gate": {"passed": False}}
    metrics = {"export": {"path": kept.as_posix(), "published": False, "n": 5}, "baseline": found}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(finished_updates.report, "write_report", lambda *_: {})
    monkeypatch.setattr(finished_updates.report, "write_model_card", lambda *_: None)
    monkeypatch.setattr(finished_updates, "page_images", lambda *_: ())
    config, listing = Config(export_dir=str(tmp_path / "out")), SimpleNamespace(name="set")

    def complete(given=metrics):
        return finished_updates.complete(config, listing, folder, given, None)["export"]["path"]

    return folder, tmp_path / "out" / "set", complete


def test_a_publication_that_was_killed_is_not_repeated(refused, monkeypatch):
    folder, exports, complete = refused
    _version(exports / "1", "another")
    with monkeypatch.context() as patched:
        patched.setattr(finished_updates.report, "write_report", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            complete()
    assert not json.loads((folder / "metrics.json").read_text())["export"].get("published", True)
    assert complete() == (exports / "2").as_posix()
    assert [path.name for path in model_folders.versions(exports)] == ["1", "2"]
    assert not (folder / "unpublished").exists()
    # A process that had read the run before it was published.
    assert complete() == (exports / "2").as_posix()
    recorded = json.loads((folder / "metrics.json").read_text())["export"]
    assert recorded == {"path": (exports / "2").as_posix(), "n": 5}


def test_the_other_formats_are_asked_for_where_the_model_is(refused, monkeypatch, capsys):
    _, exports, complete = refused
    monkeypatch.setattr(finished_updates.portable_export.publish, "parse_formats", lambda chosen: ["onnx"])
    complete()
    said = capsys.readouterr().out.split("other formats: ")[1]
    assert shlex.split(said)[-1] == f"--export_dir={exports.parent}"


def test_formats_that_were_withheld_are_not_refused_any_more(refused):
    folder, _, complete = refused
    metrics = json.loads((folder / "metrics.json").read_text())
    keras = {"path": "model.keras", "n": 5}
    metrics["artefacts"] = {
        "model.keras": keras,
        "onnx": {"artefact": "onnx", "published": False, "reason": finished_updates.portable_export.REFUSED},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    complete(metrics)
    found = json.loads((folder / "metrics.json").read_text())["artefacts"]
    assert found["model.keras"] == keras and not found["onnx"]["published"]
    assert f"kerasft compress --model={folder} " in found["onnx"]["reason"] and "--gate" not in found["onnx"]["reason"]
    # A process that had read the run before it was published.
    complete(metrics)
    assert json.loads((folder / "metrics.json").read_text())["artefacts"] == found


def test_another_export_folder_gets_the_model_too(refused, tmp_path, capsys):
    folder, _, complete = refused
    first = complete()
    published = json.loads((folder / "metrics.json").read_text())

    def again(place):
        config = Config(export_dir=place)
        return finished_updates.complete(config, SimpleNamespace(name="set"), folder, published, None)["export"]["path"]

    # The default stands for the folder that has it.
    assert again(Config().export_dir) == again(str(tmp_path / "out")) == first
    capsys.readouterr()
    other = tmp_path / "other" / "set" / "1"
    assert again(str(tmp_path / "other")) == other.as_posix()
    assert capsys.readouterr().out == f"published: {other}, a copy of {first}\n"
    assert (other / model_folders.SAVED_MODEL_FILE).is_file() and Path(first).is_dir()
    # The model that is there is not copied again.
    assert again(str(tmp_path / "other")) == other.as_posix()
    assert [path.name for path in model_folders.versions(other.parent)] == ["1"]


def test_nothing_is_published_while_another_process_works_in_the_run(refused):
    folder, exports, complete = refused
    with run_lock.locked(folder), pytest.raises(UserError, match="--run_dir: another run is working in it"):
        complete()
    assert not exports.exists()


def test_the_model_of_another_run_with_the_same_number_is_not_taken(tmp_path):
    path = _version(tmp_path / "1", "a")
    metrics = {"export": {"path": path.as_posix()}, "run": "a", "weights_sha256": "sum"}
    assert finished_updates._exported(tmp_path, metrics) == path
    _version(path, "b")
    with pytest.raises(UserError, match="--run_dir: its SavedModel is not there any more"):
        finished_updates._exported(tmp_path, metrics)
