"""What a run says once its phases are trained."""

import shlex
from types import SimpleNamespace

import keras

from kerasft.job import train_phases
from kerasft.storage import weight_delta


def test_the_command_that_rebuilds_a_run_can_be_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weight_delta, "write", lambda *_: 0.1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    train_phases._write_delta(tmp_path / "a run's folder", {}, SimpleNamespace(model=model))
    command = capsys.readouterr().out.partition("(")[2].rpartition(")")[0]
    assert shlex.split(command) == ["kerasft", "rebuild", f"{tmp_path}/a run's folder"]
