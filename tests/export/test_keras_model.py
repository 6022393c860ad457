"""`model.keras`: plain Keras loads it, and what plain Keras refuses is told."""

import keras
import numpy as np
import pytest
from exported import random_network

from kerasft.data import pipeline
from kerasft.evaluation import scoring
from kerasft.export import artefact, keras_model
from kerasft.export.artefact import Answer
from kerasft.export.proof import UnreadableError


@pytest.fixture(scope="module")
def trained(photos):
    return random_network(photos)


def test_plain_keras_loads_it_and_it_is_not_compiled(trained, tmp_path):
    network, data, expected = trained
    found = artefact.publish(keras_model.KERAS_MODEL, network, Answer("r", data.classes), data.test, expected, tmp_path)
    model = keras.models.load_model(found["path"])
    assert not model.compiled
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    np.testing.assert_allclose(
        scoring.apply_activation("single_label", scoring.make_predictor(model)(batches)), expected, atol=1e-5
    )


def test_a_layer_that_safe_mode_refuses_is_told(trained, tmp_path):
    network, data, expected = trained
    twice = keras.layers.Lambda(lambda x: x * 1.0, output_shape=lambda shape: shape)(network.model.output)
    unsafe = network._replace(model=keras.Model(network.model.inputs[0], twice))
    with pytest.raises(UnreadableError, match=r"Keras cannot load model\.keras again .*Lambda.*it was not kept"):
        artefact.publish(keras_model.KERAS_MODEL, unsafe, Answer("r", data.classes), data.test, expected, tmp_path)
    assert list(tmp_path.iterdir()) == []
