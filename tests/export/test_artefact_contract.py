"""What every artefact keeps: it scores like the network, and one that does not is never seen."""

import json
import platform
from dataclasses import replace

import keras
import numpy as np
import pytest
from exported import random_network

from kerasft.export import artefact, proof
from kerasft.export.artefact import Answer
from kerasft.export.keras_model import KERAS_MODEL
from kerasft.export.saved_model import SAVED_MODEL

# Portable artefacts have a contract test of their own.
ARTEFACTS = {"saved_model": SAVED_MODEL, "keras_model": KERAS_MODEL}


@pytest.fixture(scope="module")
def trained(photos):
    return random_network(photos)


def spoiled(member, network):
    """The artefact, written of a network one of whose weights is a little different."""

    def write(_, answer, draft):
        altered = keras.models.clone_model(network.model)
        altered.set_weights(network.model.get_weights())
        layer = altered.get_layer("logits")
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias + np.eye(len(bias))[0] * 0.01])
        member.write(network._replace(model=altered), answer, draft)

    return replace(member, write=write)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_is_published_scores_like_the_network(trained, tmp_path, name):
    network, data, expected = trained
    member, answer = ARTEFACTS[name], Answer("r", data.classes)
    found = artefact.publish(member, network, answer, data.test, expected, tmp_path)
    assert found["max_abs_diff"] < proof.TOLERANCE
    assert (found["top1_agreement"], found["n"]) == (1.0, len(data.test))
    (published,) = tmp_path.iterdir()
    assert found["path"] == published.as_posix()
    json.dumps(found)
    # Read where it stands, by whoever comes later.
    place = published if published.is_dir() else tmp_path
    np.testing.assert_allclose(member.outputs(place, network, data.test), expected, atol=proof.TOLERANCE)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_a_spoiled_one_is_not_published(trained, tmp_path, name):
    network, data, expected = trained
    folder = tmp_path / "models"
    with pytest.raises(proof.ParityError, match=f"the {ARTEFACTS[name].name} differs .*nothing was exported"):
        artefact.publish(
            spoiled(ARTEFACTS[name], network), network, Answer("r", data.classes), data.test, expected, folder
        )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_earlier_one_outlives_a_spoiled_one(trained, tmp_path, name):
    network, data, expected = trained
    member, answer = ARTEFACTS[name], Answer("r", data.classes)
    artefact.publish(member, network, answer, data.test, expected, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(proof.ParityError):
        artefact.publish(spoiled(member, network), network, answer, data.test, expected, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ARTEFACTS)
def test_a_write_that_breaks_off_leaves_nothing(trained, tmp_path, name):
    network, data, expected = trained

    def breaks(network, answer, draft):
        ARTEFACTS[name].write(network, answer, draft)
        raise OSError(28, "No space left on device")

    dead = tmp_path / f".draft-{platform.node()}-{2**22 + 1}"
    dead.mkdir()
    with pytest.raises(OSError, match="No space"):
        artefact.publish(
            replace(ARTEFACTS[name], write=breaks), network, Answer("r", data.classes), data.test, expected, tmp_path
        )
    assert list(tmp_path.iterdir()) == []
