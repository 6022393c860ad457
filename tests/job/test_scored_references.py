"""Simple models on frozen features beside the trained network: which of them there are."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import splits_of
from training_runs import trained

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
