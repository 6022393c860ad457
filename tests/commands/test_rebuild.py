"""`kerasft rebuild`: the model of a run again, from the pretrained network and what the run changed."""

import keras
import numpy as np
import pytest
from served import artefact

from kerasft import commands
from kerasft.export.portable import publish
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
    with pytest.raises(UserError, match=r"kerasft rebuild: must be a run folder with delta\.npz in it, or an artefact"):
        commands.run("rebuild", [str(tmp_path)])


def test_a_model_with_rounded_weights_is_made_whole_again(tmp_path):
    folder = artefact(tmp_path / "keras-int8", "keras")
    commands.run("rebuild", [str(folder), f"--out={tmp_path / 'model.keras'}"])
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    logits = np.asarray(keras.models.load_model(tmp_path / "model.keras")(images))
    found = publish.load(folder)(images)
    np.testing.assert_allclose(found, keras.ops.softmax(logits), rtol=1e-5)
    (folder / "model.q8.npz").write_bytes(b"no file of numpy")
    with pytest.raises(UserError, match="kerasft rebuild: the artefact cannot be read"):
        commands.run("rebuild", [str(folder)])
