"""A run on a changed backbone, weights file or module of one's own is another run; a file that is gone stops nobody."""

import importlib
import json
import sys
from types import SimpleNamespace

import keras
import pytest

from kerasft.job import file_changes, train, train_phases
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints, run_folder
from kerasft.storage.resolved_settings import ResolvedSettings

OWN = """
import keras

class Scale(keras.layers.Layer):
    def call(self, x):
        return x * {factor}

class Slow(keras.optimizers.SGD):
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module `files_of_a_user.layers` in a package."""
    (tmp_path / "files_of_a_user").mkdir()
    (tmp_path / "files_of_a_user" / "__init__.py").touch()
    (tmp_path / "files_of_a_user" / "layers.py").write_text(OWN.format(factor=2))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("files_of_a_user.layers")
    _forget()


def _forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "files_of_a_user"]:
        del sys.modules[name]


def _network(*layers):
    outputs = inputs = keras.Input((4, 4, 3))
    for layer in layers:
        outputs = layer(outputs)
    return SimpleNamespace(model=keras.Model(inputs, outputs))


@pytest.mark.parametrize("flag", ["backbone", "weights"])
def test_a_file_that_has_changed_is_named(flag, tmp_path):
    path = tmp_path / "pre.keras"
    path.write_text("before")
    settled = {"files": file_changes.digests(Config(**{flag: str(path)}), _network())}
    assert list(settled["files"]) == [flag]
    file_changes.refuse_other_files(settled, tmp_path)
    path.write_text("after")
    with pytest.raises(UserError, match=rf"--{flag}: has changed since .*--noresume.*another --run_dir.*pre.keras"):
        file_changes.refuse_other_files(settled, tmp_path)
    path.unlink()
    file_changes.refuse_other_files(settled, tmp_path)


def test_a_preset_in_a_folder_is_all_of_its_files(tmp_path):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "config.json").write_text("{}")
    settled = {"files": file_changes.digests(Config(backbone=f"hub:{tmp_path}/preset"), _network())}
    (tmp_path / "preset" / "model.weights.h5").touch()
    with pytest.raises(UserError, match="--backbone"):
        file_changes.refuse_other_files(settled, tmp_path)


def test_what_is_no_file_has_no_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MobileNet").mkdir()
    (tmp_path / "imagenet").touch()
    assert file_changes.digests(Config(backbone="MobileNet", weights="imagenet"), _network()) == {}


@pytest.mark.parametrize("by", ["layer", "setting"])
def test_code_of_ones_own_that_has_changed_is_named(by, own, tmp_path):
    setting = {"optimizer": "files_of_a_user.layers.Slow"} if by == "setting" else {}
    config = Config(allow_imports=("files_of_a_user",), **setting)
    settled = {"files": file_changes.digests(config, _network(*[own.Scale()] * (by == "layer")))}
    assert list(settled["files"]["allow_imports"]) == ["files_of_a_user.layers"]
    # A finished run that is only read imports no layers.
    _forget()
    file_changes.refuse_other_files(settled, tmp_path)
    (tmp_path / "files_of_a_user" / "layers.py").write_text(OWN.format(factor=3))
    with pytest.raises(UserError, match=r"--allow_imports: has changed .*Received: 'files_of_a_user.layers'"):
        file_changes.refuse_other_files(settled, tmp_path)
    assert "files_of_a_user" not in sys.modules
    (tmp_path / "files_of_a_user" / "layers.py").unlink()
    file_changes.refuse_other_files(settled, tmp_path)


def test_a_finished_run_is_not_read_for_another_backbone(tmp_path):
    (tmp_path / "pre.keras").write_text("after")
    config = Config(data="generated:2x8", backbone=str(tmp_path / "pre.keras"), run_dir=str(tmp_path / "run"))
    run_folder.write_settings(config, tmp_path / "run")
    settled = {"files": {"backbone": {config.backbone: "before"}}}
    metrics = {"task": "single_label", "test": {}, "export": {}, "seconds": {}, "settled": settled}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="--backbone: has changed"):
        train.train(config)


def test_a_stopped_run_does_not_go_on_with_another_backbone(tmp_path):
    (tmp_path / "pre.keras").write_text("after")
    (tmp_path / checkpoints.FILE_NAMES[0]).touch()
    files = {"backbone": {str(tmp_path / "pre.keras"): "before"}}
    ResolvedSettings("none", 32, "float32", files=files).write(tmp_path)
    with pytest.raises(UserError, match="--backbone: has changed"):
        train_phases.train_phases(Config(), None, tmp_path, tmp_path, {}, 0.0)


def test_a_finished_run_knows_its_teacher(tmp_path):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "model.keras").write_text("after")
    known = {"task": "single_label", "classes": ["a", "b"], "image_size": 32}
    (teacher / "metrics.json").write_text(json.dumps(known))
    settled = {"teacher": {"members": [{"path": str(teacher), "sha256": "before"}]}}
    with pytest.raises(UserError, match="--teacher: has changed"):
        file_changes.refuse_other_files(settled, tmp_path)
    (teacher / "model.keras").unlink()
    file_changes.refuse_other_files(settled, tmp_path)
