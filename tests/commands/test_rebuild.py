"""`kerasft rebuild`: the model of a run again, from the pretrained network and what the run changed."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from served import artefact, photo

from kerasft import commands
from kerasft.export.artefact import Answer
from kerasft.export.portable import FORMATS, publish
from kerasft.export.portable.format import Source
from kerasft.job import train
from kerasft.networks.heads import GeM
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings


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


def test_what_a_run_was_allowed_to_import_does_not_count(tmp_path, monkeypatch):
    """A run folder may be a stranger's."""
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "delta.npz").write_bytes(b"")
    values = {"data": "digits", "backbone": "no.keras", "allow_imports": ["stranger"], "of_another_version": 1}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "metrics.json").write_text(json.dumps({"task": "single_label", "classes": ["a", "b"]}))
    resolved_settings.ResolvedSettings("none", 32, "float32", "").write(folder)
    with pytest.raises(UserError, match="--backbone"):
        commands.run("rebuild", [str(folder)])
    assert "stranger" not in sys.modules
    with pytest.raises(SystemExit, match="imported"):
        commands.run("rebuild", [str(folder), "--allow_imports=stranger"])


def test_a_folder_without_a_delta_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"kerasft rebuild: must be a run folder with delta\.npz in it, or an artefact"):
        commands.run("rebuild", [str(tmp_path)])


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    (tmp_path / "delta.npz").write_bytes(b"")
    with pytest.raises(UserError, match=f"kerasft rebuild: the run is not finished. Received: '{tmp_path}'"):
        commands.run("rebuild", [str(tmp_path)])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    folder = artefact(tmp_path / "keras-int8", "keras")
    with pytest.raises(UserError, match=r"--out: cannot be written \(.*\). Received: '/proc/x.keras'"):
        commands.run("rebuild", [str(folder), "--out=/proc/x.keras"])


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    artefact(tmp_path / "keras-int8", "keras")
    commands.run("rebuild", ["~/keras-int8", "--out=~/model.keras"])
    assert (tmp_path / "model.keras").is_file()
    with pytest.raises(UserError, match=r"kerasft rebuild: must be a run folder .* Received: '~nobody-at-all/run'"):
        commands.run("rebuild", ["~nobody-at-all/run"])


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


@pytest.mark.large
def test_a_head_with_a_layer_of_ours_is_read_in_a_new_process(tmp_path):
    """The command registers the layer by itself."""
    inputs = keras.Input((32, 32, 3))
    features = GeM(name="features")(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    network = Network(keras.Model(inputs, keras.layers.Dense(2)(features)), "r", "regression", 32, True, "", (), ())
    folder = tmp_path / "1" / "keras-int8"
    folder.mkdir(parents=True)
    written = FORMATS["keras"]()
    written.write(Source(network, calibration=None, corrected=lambda: network), folder)
    publish.write_program(written, network, Answer("r", ("a", "b")), folder)
    (tmp_path / "photo.png").write_bytes(photo(0, "PNG"))
    for line in (["rebuild", str(folder)], ["predict", f"--model={folder}", f"--images={tmp_path / 'photo.png'}"]):
        done = subprocess.run(
            [sys.executable, "-m", "kerasft", *line],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
