"""A run under `--abstain` and `--coverage`: what is fitted is served, proven and recorded."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tables import first_cells

from kerasft.data.sources import load
from kerasft.evaluation import novelty
from kerasft.job import train, uncertainty
from kerasft.report import uncertainty_section
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

QUICK = {"phases": "head(epochs=0)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}
PLACES = {"tensorboard": False, "warmup": True}
FILES = {"multi_label": "two_digits", "regression": "angles"}


def _run(tiny, folder, data, **settings):
    places = {"run_dir": str(folder / "run"), "export_dir": str(folder / "exports")}
    return train.train(Config(**QUICK | PLACES | places | {"data": data, "backbone": tiny} | settings)).metrics


def _serve(metrics, images):
    loaded = tf.saved_model.load(metrics["export"]["path"])
    given = loaded.signatures["images"](images=tf.constant(images))
    return {name: value.numpy() for name, value in given.items()}


def test_single_label_end_to_end(tiny, tmp_path, capsys):
    metrics = _run(tiny, tmp_path, "generated:3x40", abstain="auto(keep=0.9)", coverage=0.8, tta="flip")
    recorded = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert recorded["abstain"] == metrics["abstain"] and metrics.keys() <= first_cells("metrics.md")
    abstain, coverage = metrics["abstain"], metrics["coverage"]
    assert (abstain["method"], abstain["keep"], coverage["asked"]) == ("distance", 0.9, 0.8)
    assert abstain["kept"] > 0.6 and 0.9 <= abstain["kept_val"] <= 1
    assert coverage["observed"] > 0.6
    assert metrics["export"]["extra_outputs"].keys() == {"novelty", "known", "label_set"}
    printed = capsys.readouterr().out
    assert "abstain: distance, " in printed
    assert "coverage: sets of " in printed
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="unknowns"' in page
    # The network is random, so what it thinks of noise is no matter here.
    noise = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    given = _serve(metrics, noise)
    assert {name: (given[name].dtype, given[name].shape) for name in ("novelty", "known", "label_set")} == {
        "novelty": (np.float32, (6,)),
        "known": (np.bool_, (6,)),
        "label_set": (np.bool_, (6, 3)),
    }
    np.testing.assert_array_equal(given["known"], given["novelty"] <= abstain["threshold"])
    np.testing.assert_array_equal(
        given["label_set"], given["probabilities"] >= np.float32(coverage["least_probability"])
    )


@pytest.mark.large
def test_energy_is_that_of_the_logits(tiny, tmp_path):
    metrics = _run(tiny, tmp_path, "generated:3x40", abstain="energy")
    assert "coverage" not in metrics
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    logits = keras.models.load_model(tmp_path / "run" / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(_serve(metrics, images)["novelty"], novelty.energy(logits), rtol=1e-4)


@pytest.mark.large
@pytest.mark.parametrize("task", FILES)
def test_other_tasks(task, tiny, tmp_path, request):
    coverage = {"coverage": 0.8} if task == "regression" else {}
    data = f"csv:{request.getfixturevalue(FILES[task])}"
    metrics = _run(tiny, tmp_path, data, abstain="distance", **coverage)
    given = _serve(metrics, np.zeros((2, 32, 32, 3), np.float32))
    assert given["known"].dtype == bool
    assert "accuracy_known" not in metrics["abstain"]
    if task == "regression":
        middle = (given["lower"].astype(float) + given["upper"]) / 2
        np.testing.assert_allclose(middle, given["values"], rtol=1e-4, atol=1e-4)
        widths = list(metrics["coverage"]["width"].values())
        np.testing.assert_allclose((given["upper"].astype(float) - given["lower"])[0], widths, rtol=1e-3)
        assert 0.5 < metrics["coverage"]["observed"] <= 1


def test_too_few_validation_images_are_said_before_training(tiny, tmp_path):
    with pytest.raises(UserError, match=r"--coverage: needs at least 99 validation images, and there are \d+"):
        _run(tiny, tmp_path, "generated:2x8", coverage=0.99)
    assert not list((tmp_path / "run").glob("phases/*"))


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("multi_label", {"coverage": 0.9}, "--coverage: is for single_label and regression"),
        ("multi_label", {"abstain": "energy"}, "--abstain: energy is for single_label"),
        ("regression", {"abstain": "energy"}, "--abstain: energy is for single_label"),
    ],
)
def test_a_setting_that_is_not_for_the_task(task, settings, message, request):
    with pytest.raises(UserError, match=message):
        load(Config(data=f"csv:{request.getfixturevalue(FILES[task])}", **settings))


def test_shares_are_those_that_were_measured_and_are_not_rounded_to_all(capsys):
    abstain = {"method": "energy", "keep": 0.95, "kept_val": 1.0, "kept": 0.9996, "n": 3000, "threshold": 1.0}
    coverage = {"asked": 0.9996, "observed": 0.9999, "mean_set_size": 2.0, "n": 16, "calibrated_on": 12}
    uncertainty.summarise({"abstain": abstain, "coverage": coverage})
    printed = capsys.readouterr().out
    assert "over 99.9% of 3000 test images are known (100.0% of validation)" in printed
    assert "of 16 test images (over 99.9% asked, by 12 validation images)" in printed
    (first, *_) = uncertainty_section.sentences({"abstain": abstain})
    assert "keeps 100.0% of the validation images" in first
