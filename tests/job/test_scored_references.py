"""Simple models on frozen features beside the trained network: which of them there are."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import splits_of
from training_runs import trained

from kerasft.data.splits import Split
from kerasft.evaluation.scoring import Scorer
from kerasft.job import reference_models
from kerasft.networks import copies


@pytest.mark.parametrize(("head", "solved"), [("linear", True), ("mlp(units=(WIDTH,))", False)])
def test_a_solution_on_hidden_units_is_no_probe_of_the_features(photos, tiny, tmp_path, head, solved):
    width = keras.models.load_model(tiny).output_shape[-1]
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    settings = {"head": head.replace("WIDTH", str(width)), "head_init": "probe", "augment": "none", "features": "last"}
    run = trained(data, tmp_path / "run", tiny, phases="head", **settings)
    pretrained = {name: weight.numpy() for name, weight in copies.weights_by_name(run.network.model).items()}
    assert run.trained.solution[0].shape == (width, 2)
    fitted = reference_models.fit(run.trained, pretrained, data)
    assert ("linear_probe" in fitted.models) is solved and "nearest_centroid" in fitted.models


def test_a_solved_head_is_no_baseline_of_a_quantile(photos, tiny, tmp_path):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    run = trained(data, tmp_path / "run", tiny, phases="head", head_init="probe", augment="none", features="last")
    pretrained = {name: weight.numpy() for name, weight in copies.weights_by_name(run.network.model).items()}
    scorer = replace(run.trained.setup.scorer, error="pinball", quantile=0.9)
    asked = replace(run.trained, setup=replace(run.trained.setup, scorer=scorer))
    named = [set(reference_models.fit(one, pretrained, data).models) for one in (run.trained, asked)]
    assert named[0] - named[1] == {"linear_probe"}


def test_baselines_of_a_quantile_are_compared_by_its_pinball_loss():
    """The network answers with the quantile, the baseline with the median, whose absolute error is lower."""
    labels = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    test = Split(np.arange(300).astype(str), labels, None, None)
    scorer = Scorer("regression", labels, np.ones(1), error="pinball", quantile=0.9)
    setup = SimpleNamespace(network=SimpleNamespace(task="regression"), scorer=scorer)
    high = np.full((300, 1), 1.2816, np.float32)
    evaluation = SimpleNamespace(test=high, losses=scorer.losses(high))
    median = reference_models.ReferenceModel(np.zeros_like, 0, 0.0)
    row = reference_models._row(median, labels, SimpleNamespace(setup=setup), test, evaluation)
    assert row["pinball"] == pytest.approx(row["loss"]) and "mae" not in row
    assert row["difference"] == pytest.approx(row["loss_difference"]) and row["difference"][2] < 0


def test_the_features_of_test_images_take_no_room_from_others(photos, tiny, tmp_path):
    """A full cache keeps what it holds, and the models are the same."""
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    settings = {"head": "linear", "head_init": "probe", "augment": "none", "features": "last"}
    run = trained(
        data, tmp_path / "run", tiny, phases="head", keep_cache=True, cache_dir=str(tmp_path / "c"), **settings
    )
    pretrained = {name: weight.numpy() for name, weight in copies.weights_by_name(run.network.model).items()}

    def activations() -> dict:
        return {path: path.stat().st_size for path in (tmp_path / "c").glob("*/activations.bin")}

    held = activations()
    full = run.trained.setup.cache._replace(max_bytes=sum(held.values()))
    small = replace(run.trained, setup=replace(run.trained.setup, cache=full))
    found = reference_models.fit(small, pretrained, data)
    assert activations() == held
    whole = reference_models.fit(run.trained, pretrained, data)
    assert activations() != held
    np.testing.assert_allclose(found.features.test, whole.features.test, atol=1e-5)


def test_the_probe_has_its_temperature_fitted_as_the_network_has(photos, tiny, tmp_path, monkeypatch):
    """Else a run that undid all its phases would show a gain over its own probe."""
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    settings = {"head": "linear", "head_init": "probe", "augment": "none", "features": "last"}
    run = trained(data, tmp_path / "run", tiny, phases="head", **settings)
    pretrained = {name: weight.numpy() for name, weight in copies.weights_by_name(run.network.model).items()}
    answers = []
    for temperature in (1.0, 4.0):
        monkeypatch.setattr(Scorer, "temperature", lambda self, outputs, t=temperature: t)
        fitted = reference_models.fit(run.trained, pretrained, data)
        answers.append(fitted.models["linear_probe"].answer(fitted.features.test))
    np.testing.assert_allclose(answers[0], 4 * answers[1], rtol=1e-5)
