"""The export's proof: what differs is not published; versions are free numbers."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from exported import random_network

from kerasft.data import pipeline
from kerasft.evaluation import scoring
from kerasft.export import model_folders, proof, saved_model
from kerasft.settings.errors import UserError


@pytest.fixture(scope="module")
def trained(photos):
    return random_network(photos)


def test_versions_are_the_next_free_numbers(trained, tmp_path):
    network, data, expected = trained
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    found = saved_model.export(network, saved_model.Answer("r", data.classes), data.test, expected, tmp_path)
    assert found["path"].endswith("/8")
    assert found["max_abs_diff"] < proof.TOLERANCE
    assert (found["top1_agreement"], found["n"]) == (1.0, len(data.test))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]
    assert [path.name for path in (tmp_path / "8" / "assets.extra").iterdir()] == ["kerasft.json"]
    assert model_folders.newest(str(tmp_path)) == tmp_path / "8"
    json.dumps(found)


def test_a_version_is_above_those_that_have_portable_artefacts(tmp_path):
    folder, draft = tmp_path / "saved_models" / "photos", tmp_path / "saved_models" / "photos" / ".draft"
    (tmp_path / "exports" / "photos" / "1" / "onnx").mkdir(parents=True)
    draft.mkdir(parents=True)
    assert saved_model.place(draft, folder) == folder / "2"


def test_a_difference_is_not_published_and_says_by_how_much(trained, tmp_path):
    network, data, expected = trained
    wrong = expected.copy()
    wrong[3] = wrong[3] + [2e-3, -2e-3]
    with pytest.raises(
        proof.ParityError, match=r"differs from the trained model by up to 0\.002 .*nothing was exported"
    ):
        saved_model.export(network, saved_model.Answer("r", data.classes), data.test, wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_judge_sees_the_proven_answers_and_may_name_another_folder(trained, tmp_path):
    network, data, expected = trained
    own, other, seen = tmp_path / "own", tmp_path / "other" / "name", {}

    def judge(given):
        seen.update(given)
        return other

    answer = saved_model.Answer("r", data.classes)
    draft = saved_model.start(network, answer, own)
    found = saved_model.finish(draft, network, answer, data.test, expected, judge=judge)
    np.testing.assert_allclose(seen["probabilities"], expected, atol=proof.TOLERANCE)
    assert found["path"] == (other / "1").as_posix()
    assert (model_folders.versions(own), model_folders.versions(other)) == ([], [other / "1"])
    assert list(own.iterdir()) == [] and [path.name for path in other.iterdir()] == ["1"]


@pytest.mark.parametrize("framing", ["pad", pytest.param("squash", marks=pytest.mark.large)])
def test_the_export_frames_as_training_did(trained, framing, tmp_path):
    network, data, _ = trained
    split = replace(data.test, images=None, framing=framing)
    batches = pipeline.evaluation_stream(split, size=32, batch_size=8)
    expected = scoring.apply_activation(network.task, scoring.make_predictor(network.model)(batches))
    answer = saved_model.Answer("r", data.classes, framing=framing)
    found = saved_model.export(network, answer, split, expected, tmp_path, split)
    assert found["max_abs_diff"] < proof.TOLERANCE
    assert saved_model.read_metadata(tmp_path / "1")["framing"] == framing


def test_nan_is_a_difference(trained, tmp_path):
    network, data, expected = trained
    with pytest.raises(proof.ParityError):
        saved_model.export(network, saved_model.Answer("r", data.classes), data.test, expected * np.nan, tmp_path)


def test_another_decoder_in_training_would_be_found(trained, tmp_path):
    """Pixels that training saw otherwise: the proof reads the files' own bytes."""
    network, data, _ = trained
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    skewed = scoring.make_predictor(network.model)(batches.map(lambda images: images[:, ::-1] * 0.5))
    with pytest.raises(proof.ParityError):
        saved_model.export(
            network,
            saved_model.Answer("r", data.classes),
            data.test,
            scoring.apply_activation("single_label", skewed),
            tmp_path,
        )


def test_a_run_publishes_once_and_sweeps_the_drafts_of_the_dead(trained, tmp_path):
    import platform

    network, data, expected = trained
    dead = tmp_path / f".draft-{platform.node()}-{2**22 + 1}"
    dead.mkdir()
    answer = saved_model.Answer("run-1", data.classes)
    first = saved_model.export(network, answer, data.test, expected, tmp_path)
    assert not dead.exists()
    again = saved_model.export(network, answer, data.test, expected, tmp_path)
    assert again == first
    assert saved_model.read_metadata(tmp_path / "1") == {
        "run": "run-1",
        "task": "single_label",
        "classes": ["disc", "square"],
        "image_size": 32,
        "tta": "none",
        "framing": "crop",
    }
    other = saved_model.export(network, answer._replace(run="run-2"), data.test, expected, tmp_path)
    assert other["path"].endswith("/2")


@pytest.mark.large
@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_other_tasks_are_served_as_themselves(trained, tmp_path, task):
    import tensorflow as tf

    from kerasft.probes import head_statistics

    network, data, _ = trained
    outputs = network.model.output
    if task == "regression":
        outputs = keras.layers.Normalization(axis=-1, invert=True, name="values")(outputs)
    network = network._replace(task=task, model=keras.Model(network.model.inputs[0], outputs))
    scale = np.array([5.0, 0.1])
    if task == "regression":
        targets = np.random.default_rng(0).normal([100, 3], scale, (50, 2))
        head_statistics.set_statistics(network.model.get_layer("values"), targets)
    batches = pipeline.evaluation_stream(data.test, size=32, batch_size=8)
    expected = scoring.apply_activation(task, scoring.make_predictor(network.model)(batches))
    limits = None if task == "regression" else np.array([0.2, 0.7], np.float32)
    answer = saved_model.Answer("r", data.classes, limits, scale if task == "regression" else None)
    found = saved_model.export(network, answer, data.test, expected, tmp_path)
    serve = tf.saved_model.load(found["path"]).signatures["serving_default"]
    given = serve(image_bytes=tf.constant([data.test.read(0), data.test.read(1)]))
    if task == "regression":
        assert given.keys() == {"values"}
        np.testing.assert_allclose(given["values"], expected[:2], rtol=1e-4)
        assert expected.mean(0)[0] > 50
        assert "top1_agreement" not in found
    else:
        np.testing.assert_allclose(given["probabilities"], expected[:2], atol=1e-5)
        np.testing.assert_array_equal(given["predicted"], expected[:2] >= limits)
        assert found["label_agreement"] == 1
    with pytest.raises(proof.ParityError):
        saved_model.export(network, answer._replace(run="s"), data.test, expected + 1e-3 * scale, tmp_path)


def test_the_export_holds_requests_to_warm_up_with(trained, tmp_path, monkeypatch):
    """A few validation images, small and encoded anew."""
    import tensorflow as tf

    from kerasft.data.decode import decode_batch
    from kerasft.export import serving_warmup

    network, data, expected = trained
    saved_model.export(network, saved_model.Answer("r", data.classes), data.test, expected, tmp_path, data.val)
    version = tmp_path / "1"
    batches = serving_warmup.requests(version)
    assert [len(batch) for batch in batches] == [1, 8, 32]
    assert (version / serving_warmup.FILE).stat().st_size < 200_000
    chosen = np.unique(np.linspace(0, len(data.val) - 1, 8).astype(int))
    for index, content in zip(chosen, batches[1].numpy()):
        original = data.val.read(int(index))
        assert content != original
        pixels, truth = decode_batch(tf.constant([content, original]), 32, "crop").numpy().astype(int)
        assert np.abs(pixels - truth).mean() < 15  # noise, of which JPEG keeps little
        assert np.corrcoef(pixels.ravel(), truth.ravel())[0, 1] > 0.9
    # A request that failed would keep TensorFlow Serving from loading the model.
    monkeypatch.setattr(serving_warmup, "requests", lambda folder: [tf.constant(["no image"])])
    with pytest.raises(tf.errors.InvalidArgumentError):
        saved_model.export(network, saved_model.Answer("r", data.classes), data.test, expected, tmp_path, data.val)


def test_every_weight_is_stored_once(trained, tmp_path):
    network, data, _ = trained
    saved_model.write(network, saved_model.Answer("r", data.classes), tmp_path / "1")
    stored = sum(path.stat().st_size for path in (tmp_path / "1" / "variables").glob("*.data-*"))
    weights = sum(np.asarray(weight).nbytes for weight in network.model.get_weights())
    assert weights <= stored < 1.1 * weights


@pytest.mark.parametrize("place", ["", "empty"])
def test_no_model_is_said(tmp_path, place):
    (tmp_path / "empty" / "1").mkdir(parents=True)
    with pytest.raises(
        UserError, match="--model: must be a SavedModel, an artefact of --export, or a folder of numbered ones"
    ):
        model_folders.newest(str(tmp_path / place))
