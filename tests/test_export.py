"""The export's proof: what differs is not published; versions are free numbers."""

import json

import keras
import numpy as np
import pytest

from kerasft import evaluate, export, model
from kerasft.config import Config
from kerasft.data import pipeline, sources, splits
from kerasft.data.audit import audit
from kerasft.errors import UserError


@pytest.fixture(scope="module")
def trained(photos):
    """A network with a random head, its data, and its probabilities for the test pictures."""
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="he_normal")
    network = model.build(config, 2)
    listing, pictures = audit(sources.load(Config(data=f"folder:{photos}")), 32, lambda count: None)
    data = splits.carve(listing, pictures, 0.2, 0.2, 0)
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    predict, layer = evaluate.predictor(network.model), network.model.get_layer("logits")
    for norm in network.model.layers:  # statistics under which a random network tells pictures apart
        if isinstance(norm, keras.layers.BatchNormalization):
            norm.momentum = 0.0
    network.model(pictures.astype("float32"), training=True)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 2 / predict(batches).std(0), bias])
    return network, data, evaluate.probabilities(predict(batches))


def test_versions_are_the_next_free_numbers(trained, tmp_path):
    network, data, expected = trained
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    found = export.export(network, data.classes, data.test, expected, tmp_path)
    assert found["path"].endswith("/8")
    assert found["max_abs_diff"] < export.TOLERANCE
    assert (found["top1_agreement"], found["n"]) == (1.0, len(data.test))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]
    assert export.newest(str(tmp_path)) == tmp_path / "8"
    json.dumps(found)


def test_a_difference_is_not_published_and_says_by_how_much(trained, tmp_path):
    network, data, expected = trained
    wrong = expected.copy()
    wrong[3] = wrong[3] + [2e-3, -2e-3]
    with pytest.raises(
        export.ParityError, match=r"differs from the trained model by up to 0\.002 .*nothing was exported"
    ):
        export.export(network, data.classes, data.test, wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_a_difference(trained, tmp_path):
    network, data, expected = trained
    with pytest.raises(export.ParityError):
        export.export(network, data.classes, data.test, expected * np.nan, tmp_path)


def test_another_decoder_in_training_would_be_found(trained, tmp_path):
    """Pixels that training saw otherwise: the proof reads the files' own bytes."""
    network, data, _ = trained
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    skewed = evaluate.predictor(network.model)(batches.map(lambda images: images[:, ::-1] * 0.5))
    with pytest.raises(export.ParityError):
        export.export(network, data.classes, data.test, evaluate.probabilities(skewed), tmp_path)


@pytest.mark.parametrize("place", ["", "empty", "missing"])
def test_no_model_is_said(tmp_path, place):
    (tmp_path / "empty" / "1").mkdir(parents=True)
    with pytest.raises(UserError, match="--model: must be a SavedModel, or a folder of numbered ones"):
        export.newest(str(tmp_path / place))
