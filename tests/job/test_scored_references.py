"""Simple models on frozen features beside the trained network: which of them there are."""

import keras
import pytest
from conftest import splits_of
from training_runs import trained

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
