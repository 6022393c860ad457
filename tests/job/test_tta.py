"""A run under `--tta`: judged, exported and proven as it is served, in every task."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.commands import rebuild
from kerasft.evaluation import scoring
from kerasft.job import train
from kerasft.settings.config import Config

QUICK = {"phases": "head(epochs=0)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}
PLACES = {"tensorboard": False, "warmup": False}
FILES = {"multi_label": "two_digits", "regression": "angles"}


def _run(tiny, folder, data, **settings):
    places = {"run_dir": str(folder / "run"), "export_dir": str(folder / "exports")}
    return train.train(Config(**QUICK | PLACES | places | {"data": data, "backbone": tiny} | settings)).metrics


@pytest.mark.parametrize("task", ["single_label", *(pytest.param(task, marks=pytest.mark.large) for task in FILES)])
def test_what_is_judged_is_what_is_served(task, tiny, tmp_path, request, capsys):
    data = f"csv:{request.getfixturevalue(FILES[task])}" if task in FILES else "generated:3x12"
    metrics = _run(tiny, tmp_path, data, tta="flip")
    settled = json.loads((tmp_path / "run" / "settled.json").read_text())
    assert metrics["tta"] == settled["tta"] == metrics["settled"]["tta"] == "flip"
    assert [row["choice"] for row in settled["tta_table"]] == ["none", "flip"]
    assert "tta: flip (as --tta says)" in capsys.readouterr().out
    # The proof has scored the whole test set through both. Values are in units of the targets.
    tolerance = 0.1 if task == "regression" else 1e-4
    assert metrics["export"]["max_abs_diff"] < tolerance
    assert metrics["artefacts"]["model.keras"]["max_abs_diff"] < tolerance
    loaded = tf.saved_model.load(metrics["export"]["path"])
    images = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
    key = "values" if task == "regression" else "probabilities"
    served = [loaded.signatures["images"](images=tf.constant(given))[key] for given in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(served[0], served[1], rtol=1e-4, atol=1e-5)
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    expected = scoring.apply_activation(task, model.predict(images, verbose=0))
    np.testing.assert_allclose(served[0], expected, rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["val"]["n"] > 0
    assert "mean over an image and its mirror image" in (tmp_path / "run" / "report.html").read_text()
    rebuild.run(str(tmp_path / "run"), str(tmp_path / "again.keras"))
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.large
def test_auto_measures_on_validation_and_none_says_nothing(tiny, tmp_path, capsys):
    metrics = _run(tiny, tmp_path / "auto", "generated:3x12", tta="auto")
    settled = metrics["settled"]
    losses = [row["loss"] for row in settled["tta_table"]]
    assert "standard error" in settled["tta_reason"]
    assert metrics["tta"] == "none" or losses[1] < losses[0]
    assert metrics["val"]["loss"] == pytest.approx(losses[metrics["tta"] == "flip"], abs=1e-4)
    capsys.readouterr()
    metrics = _run(tiny, tmp_path / "none", "generated:3x12")
    assert metrics["tta"] == metrics["settled"]["tta"] == "none"
    assert "tta_table" not in metrics["settled"]
    assert "tta:" not in capsys.readouterr().out
