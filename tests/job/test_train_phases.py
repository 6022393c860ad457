"""What a run takes from an earlier attempt, and what it says once its phases are trained."""

import shlex
from types import SimpleNamespace

import keras
import pytest

from kerasft.job import train_phases
from kerasft.settings.config import Config
from kerasft.storage import checkpoints, resolved_settings, weight_delta
from kerasft.storage.resolved_settings import ResolvedSettings


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_what_was_settled_is_kept_with_a_checkpoint_alone(has_checkpoint, tmp_path, monkeypatch):
    """The data of an attempt without one may have changed: it settled its image size on thumbnails."""
    ResolvedSettings("none", 64, "float32", framing="crop").write(tmp_path)
    if has_checkpoint:
        (tmp_path / checkpoints.FILE_NAMES[1]).touch()
    found = []

    def choose(config, listing, folder):
        found.append(resolved_settings.read(folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(train_phases, "choose_backbone", choose)
    with pytest.raises(KeyboardInterrupt):
        train_phases.train_phases(Config(), None, tmp_path, tmp_path, {}, 0.0)
    assert (found != [None]) == has_checkpoint


def test_the_command_that_rebuilds_a_run_can_be_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weight_delta, "write", lambda *_: 0.1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    train_phases._write_delta(tmp_path / "a run's folder", {}, SimpleNamespace(model=model))
    command = capsys.readouterr().out.partition("(")[2].rpartition(")")[0]
    assert shlex.split(command) == ["kerasft", "rebuild", f"{tmp_path}/a run's folder"]
