"""`kerasft rebuild`: the model of a run again, from the pretrained network and what the run changed."""

import keras
import numpy as np
import pytest

from kerasft import commands
from kerasft.job import train
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def test_a_run_is_made_whole_again(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = Config(
        data=f"folder:{photos}", backbone=tiny, phases="head | bias(epochs=2)", surgery="prune(0.2)", run_dir="run"
    )
    done = train.train(config)
    assert done.metrics["phases"][-1]["spec"].startswith("bias(")
    assert "of the weights are in delta.npz" in capsys.readouterr().out
    commands.run("rebuild", ["run"])
    ours = keras.models.load_model("run/rebuilt.keras")
    theirs = keras.models.load_model("run/model.keras")
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(ours(images, training=False)), np.asarray(theirs(images, training=False)))
    with pytest.raises(UserError, match=r"--out: must end in \.keras"):
        commands.run("rebuild", ["run", "--out=x.h5"])
    assert (tmp_path / "run" / "delta.npz").stat().st_size < 0.5 * (tmp_path / "run" / "model.keras").stat().st_size


def test_a_folder_without_a_delta_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"kerasft rebuild: must be a run folder with delta\.npz in it"):
        commands.run("rebuild", [str(tmp_path)])
