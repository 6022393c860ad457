"""`--robustness`: the served network on corrupted test images, measured as the test set is."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import splits_of
from tables import first_cells

from kerasft.data import pipeline
from kerasft.evaluation import corruptions, scoring
from kerasft.evaluation.corruptions import CORRUPTIONS
from kerasft.evaluation.scoring import Scorer
from kerasft.job import robustness, train
from kerasft.networks.network import Network
from kerasft.settings.config import Config


@pytest.fixture(scope="module")
def trained(photos, tiny):
    """A small network with random weights, and its data."""
    backbone = keras.models.load_model(tiny)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    outputs = keras.layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(0, 30, seed=0))(pooled)
    model = keras.Model(backbone.inputs[0], outputs)
    return Network(model, "tiny", "single_label", 32, False, "", (), ()), splits_of(f"folder:{photos}")


def test_the_scores_are_those_of_corrupted_images(trained, monkeypatch):
    network, data = trained
    monkeypatch.setattr(robustness, "CHUNK", 4)
    kept = {name: CORRUPTIONS[name] for name in ("contrast", "rotation")}
    monkeypatch.setattr(robustness, "CORRUPTIONS", kept)
    forward = scoring.make_predictor(network.model)
    scorer = Scorer(data.task, data.val.labels)
    found = robustness.measure("quick", network, forward, data.test, scorer, 3)
    assert found.keys() == {"robustness", "robustness_summary"}
    images = pipeline.decoded_images(data.test, np.arange(len(data.test)), network.size)
    for name in kept:
        made = [corruptions.corrupt(name, image, 5, 3, str(file)) for image, file in zip(images, data.test.ids)]
        expected = replace(scorer, labels=data.test.labels).score(forward([np.stack(made).astype(np.float32)]))
        assert found["robustness"][name][4] == expected
    summary = found["robustness_summary"]
    assert summary["score"] == "accuracy"
    clean = replace(scorer, labels=data.test.labels).score(forward([images.astype(np.float32)]))
    assert (summary["clean"], summary["n"]) == (clean, len(data.test))
    assert summary["mean"] == pytest.approx(np.mean([found["robustness"][name] for name in kept]))
    json.dumps(found, allow_nan=False)


def test_none_measures_nothing_and_a_sample_is_spread(trained):
    network, data = trained
    assert robustness.measure("none", network, None, data.test, None, 0) == {}
    rows = robustness._spread(1000, 128)
    assert len(rows) == 128 and rows[0] == 0 and rows[-1] == 999 and np.diff(rows).max() <= 8
    assert robustness._spread(5, 128).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("level", "measured", "more"),
    [
        ("none", "none", False),
        ("quick", "none", True),
        ("quick", "quick", False),
        ("full", "quick", True),
        ("quick", "full", False),
    ],
)
def test_a_finished_run_is_measured_again_for_a_higher_level_only(level, measured, more):
    metrics = {} if measured == "none" else {"robustness_summary": {"level": measured}}
    assert robustness.adds(level, metrics) == more


@pytest.mark.large
def test_a_run_measures_it_and_a_finished_one_is_asked_for_more(photos, tiny, tmp_path, capsys):
    config = Config(
        data=f"folder:{photos}",
        backbone=tiny,
        phases="head(epochs=0)",
        augment="none",
        precision="float32",
        tensorboard=False,
        warmup=False,
        tta="flip",
        robustness="quick",
        run_dir=str(tmp_path / "run"),
        export_dir=str(tmp_path / "exports"),
    )
    first = train.train(config).metrics
    assert first["robustness"].keys() == CORRUPTIONS.keys()
    assert all(len(values) == 5 for values in first["robustness"].values())
    assert first["robustness_summary"]["clean"] == first["test"]["accuracy"]
    assert "attacks" not in first and first["label_shift"]["accuracy"] == first["test"]["accuracy"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('class="line val"') >= len(CORRUPTIONS) and "Under attack" not in page
    second = train.train(replace(config, robustness="full")).metrics
    assert second.keys() <= first_cells("metrics.md")
    assert second["robustness"] == first["robustness"]
    attacks = second["attacks"]
    assert attacks["n"] == second["test"]["n"] and attacks["clean"] == second["test"]["accuracy"]
    assert max(attacks["pgd"]) <= attacks["clean"]
    assert "Under attack" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["attacks"] == attacks
    assert second["weights_sha256"] == first["weights_sha256"] and second["export"] == first["export"]
    assert "robustness: accuracy " in capsys.readouterr().out


@pytest.mark.large
def test_baselines_see_the_same_corrupted_images_through_the_frozen_network(photos, tiny, tmp_path, monkeypatch):
    """After all layers were trained: without corruption each is what it is on the test images."""
    kept = {name: CORRUPTIONS[name] for name in ("contrast", "rotation")}
    monkeypatch.setattr(robustness, "CORRUPTIONS", kept)
    places = {"run_dir": str(tmp_path / "run"), "export_dir": str(tmp_path / "exports")}
    quick = {"augment": "none", "precision": "float32", "tensorboard": False, "warmup": False}
    phases = "head(epochs=0) | all(epochs=1)"
    config = Config(data=f"folder:{photos}", backbone=tiny, phases=phases, robustness="full", **quick, **places)
    metrics = train.train(replace(config, boosted_trees=True)).metrics
    assert metrics.keys() <= first_cells("metrics.md")
    alone, corrupted = metrics["baselines"], metrics["robustness_baselines"]
    assert set(corrupted) == set(alone) == {"linear_probe", "nearest_centroid", "nearest_neighbours", "boosted_trees"}
    for name, row in corrupted.items():
        assert row["clean"] == alone[name]["accuracy"]
        assert row["mean"] == pytest.approx(np.mean([row[one] for one in kept]))
    assert "What would do as well under corruption" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(("classes", "title"), [(["a"], "error 2.0000"), (["a", "b"], "error in deviations 2.0000")])
def test_the_line_says_where_errors_are_in_deviations(capsys, classes, title):
    found = {"robustness": {"jpeg": [3.0] * 5}, "robustness_summary": {"clean": 2.0, "mean": 3.0, "n": 20}}
    robustness.summarise({"task": "regression", "classes": classes, **found})
    assert f"robustness: mean absolute {title} on 20 test images" in capsys.readouterr().out
    found["robustness_summary"]["score"] = "pinball"
    robustness.summarise({"task": "regression", "classes": classes, **found})
    assert "robustness: mean pinball loss 2.0000 on 20 test images" in capsys.readouterr().out


def test_no_reference_model_that_answers_in_time_is_no_error(trained, monkeypatch):
    network, data = trained

    class Slow:
        answers = staticmethod(lambda queries: {})

    monkeypatch.setattr(robustness, "LEVELS", {"full": (8, 0)})
    scorer = Scorer(data.task, data.val.labels)
    found = robustness.measure("full", network, scoring.make_predictor(network.model), data.test, scorer, 3, Slow())
    assert found.keys() == {"robustness", "robustness_summary"}
