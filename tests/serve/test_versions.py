"""Versions on disk and what they answer, in both protocols' words, without a server."""

import base64
import hashlib
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("kserve")
import orjson
from served import b64, exported, photo

from kerasft.serve import open_inference_v2, tfserving_v1, versions
from kerasft.serve.limits import Limits, RequestError
from kerasft.settings.errors import UserError

LIMITS = Limits(
    max_body_bytes=10**6, max_pixels=10**6, max_images=8, max_batch_size=4, max_delay_seconds=0, timeout_seconds=5
)
PHOTOS = [photo(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A loaded version of each task."""
    root = tmp_path_factory.mktemp("models")
    return {
        task: versions.load(exported(root / task / "1", task=task), LIMITS.max_batch_size)
        for task in ("single_label", "multi_label", "regression")
    }


def direct(version, contents):
    """What the bare SavedModel says."""
    import tensorflow as tf

    found = tf.saved_model.load(str(version.path)).signatures["serving_default"](image_bytes=tf.constant(contents))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("as_rows", [True, False])
def test_answers_are_those_of_the_saved_model_to_the_bit(loaded, task, as_rows):
    version = loaded[task]
    body = {"instances" if as_rows else "inputs": [b64(one) for one in PHOTOS]}
    parse_request = tfserving_v1.parse_request(body, version, LIMITS)
    text = orjson.dumps(
        tfserving_v1.format_response(parse_request.signature.call(parse_request.instances), as_rows),
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    given, expected = json.loads(text)["predictions" if as_rows else "outputs"], direct(version, PHOTOS)
    if task == "regression":  # one output has no name
        np.testing.assert_array_equal(np.float32(given), expected["values"])
        return
    columns = {name: [row[name] for row in given] for name in expected} if as_rows else given
    assert columns.keys() == expected.keys()
    assert columns["classes"] == [[name.decode() for name in row] for row in expected["classes"]]
    np.testing.assert_array_equal(np.float32(columns["scores"]), expected["scores"])
    np.testing.assert_array_equal(np.float32(columns["probabilities"]), expected["probabilities"])
    if task == "multi_label":
        assert columns["predicted"] == expected["predicted"].tolist()


def test_binary_strings_are_base64_and_others_text():
    values = np.array([[b"\xff"], [b"a"]], object)
    assert tfserving_v1.format_response({"x_bytes": values}, False) == {
        "outputs": [[{"b64": "/w=="}], [{"b64": "YQ=="}]]
    }
    assert tfserving_v1.format_response({"x": values[1:]}, True) == {"predictions": [["a"]]}


def test_pixels_may_come_decoded(loaded):
    version = loaded["single_label"]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    body = {"signature_name": "images", "inputs": {"images": pixels.tolist()}}
    parse_request = tfserving_v1.parse_request(body, version, LIMITS)
    np.testing.assert_array_equal(np.stack(parse_request.instances), pixels)
    assert parse_request.signature.call(parse_request.instances)["scores"].shape == (2, 2)
    assert tfserving_v1.parse_request(
        {"signature_name": "features", "inputs": b64(PHOTOS[0])}, version, LIMITS
    ).signature.encoded


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "either 'instances' .* or 'inputs'"),
        (b"{", "is not JSON"),
        (PHOTOS[0], r'is not JSON: .* Send an image as \{"instances": \[\{"b64": "..."\}\]\}'),
        ({}, "either"),
        ({"instances": [], "inputs": []}, "either"),
        ({"instances": []}, "instances: must be a list of at least one"),
        ({"instances": "x"}, "instances: must be a list"),
        ({"instances": ["x"]}, r"instances\[0\]: an encoded image is written"),
        ({"instances": [{"b64": 1}]}, r"instances\[0\]: base64 must be a string"),
        (
            {"instances": [{"other": b64(b"x")}]},
            r"instances\[0\]: the only input is 'image_bytes'. Received: \['other'\]",
        ),
        ({"inputs": [b64(PHOTOS[0]), b64(b"x")]}, r"inputs\[1\]: the image must have one of the formats"),
        ({"instances": [b64(PHOTOS[0])] * 9}, "at most 8 images"),
        ({"instances": [1], "signature_name": "x"}, "must be one of features, images, serving_default. Received: 'x'"),
        ({"instances": [1], "signature_name": ["x"]}, "signature_name"),
        ({"instances": [[1, 2]], "signature_name": "images"}, r"must be finite numbers of shape \[32, 32, 3\]"),
        ({"instances": [["a"]], "signature_name": "images"}, r"must be finite numbers of shape"),
    ],
)
def test_a_body_that_is_not_taken_is_explained(loaded, body, text):
    with pytest.raises(RequestError, match=text) as caught:
        tfserving_v1.parse_request(body, loaded["single_label"], LIMITS)
    assert caught.value.status in (400, 413)


def inference(**changes) -> bytes:
    tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [b64(PHOTOS[0])["b64"]]}
    return json.dumps({"inputs": [tensor | changes]}).encode()


def test_an_inference_request_gives_the_same_as_rows(loaded):
    version = loaded["single_label"]
    request = open_inference_v2.parse_body(inference(), None, "shapes")
    parse_request = open_inference_v2.parse_request(request, version, LIMITS)
    assert parse_request.instances == PHOTOS[:1]
    answer, length = open_inference_v2.format_response(
        request, version, parse_request.signature.call(parse_request.instances)
    ).to_rest()
    assert length is None
    found = {one["name"]: one for one in answer["outputs"]}
    expected = direct(version, PHOTOS[:1])
    assert found["classes"]["data"] == [name.decode() for name in expected["classes"][0]]
    np.testing.assert_array_equal(np.float32(found["scores"]["data"]), expected["scores"][0])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"nonsense", "no request of the Open Inference Protocol"),
        (b"[]", "no request of"),
        (b"{}", "lacks 'inputs'"),
        (inference(name="x"), "only input is 'image_bytes'"),
        (inference(datatype="FP32"), "datatype must be BYTES. Received: 'FP32'"),
        (inference(shape=[2]), "one value for each image"),
        (inference(shape=[]), "its data must have its shape"),
        (inference(shape="x"), "its data must have its shape"),
        (inference(data=None), "lacks 'binary_data_size'"),
        (inference(data=["$"]), r"image_bytes\[0\]: is not base64"),
        (inference(data=[], shape=[0]), "at least one"),
        (inference(name=["x"]), "only input"),
        (inference(parameters=["x"]), "no request of"),
        (inference(shape=[2**63]), "one value for each image"),
        (json.dumps({"inputs": [], "outputs": [{"name": ["x"]}]}).encode(), "outputs: must be of"),
    ],
)
def test_an_inference_request_that_is_not_taken_is_explained(loaded, body, text):
    with pytest.raises(RequestError, match=text) as caught:
        open_inference_v2.parse_request(
            open_inference_v2.parse_body(body, None, "shapes"), loaded["single_label"], LIMITS
        )
    assert caught.value.status == 400


def test_the_highest_version_is_chosen_and_a_broken_one_passed_over_until_it_changes(loaded, tmp_path):
    for number in ("1", "2", "10"):
        shutil.copytree(loaded["single_label"].path, tmp_path / "shapes" / number)
    source = versions.find_source(str(tmp_path / "shapes"))
    assert (source.name, source.pinned) == ("shapes", False)
    assert versions.find_newest(source, {}) == tmp_path / "shapes" / "10"
    broken = tmp_path / "shapes" / "10"
    (broken / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(UserError):
        versions.load(broken, 1)
    refused = {broken: versions.fingerprint(broken)}
    assert versions.find_newest(source, refused) == tmp_path / "shapes" / "2"
    shutil.copy(tmp_path / "shapes" / "2" / "saved_model.pb", broken)
    assert versions.find_newest(source, refused) == broken
    shutil.rmtree(tmp_path / "shapes")
    assert versions.find_newest(source, refused) is None


@pytest.mark.parametrize("part", ["variables/variables.index", "variables/variables.data-00000-of-00001"])
def test_a_folder_that_is_not_all_there_is_broken(loaded, tmp_path, part):
    shutil.copytree(loaded["single_label"].path, tmp_path / "1")
    (tmp_path / "1" / part).unlink()
    with pytest.raises(UserError):
        versions.load(tmp_path / "1", 1)


def test_a_version_is_pinned_by_its_own_folder(loaded, tmp_path):
    shutil.copytree(loaded["single_label"].path, tmp_path / "shapes" / "3")
    source = versions.find_source(str(tmp_path / "shapes" / "3"))
    assert (source.name, source.pinned, versions.find_newest(source, {})) == ("shapes", True, tmp_path / "shapes" / "3")
    assert versions.load(tmp_path / "shapes" / "3", 1).number == 3
    with pytest.raises(UserError, match="--model: there is no such folder"):
        versions.find_source(str(tmp_path / "nothing"))


def test_metadata_are_those_of_tensorflow_serving(loaded):
    defined = loaded["single_label"].model.definitions["serving_default"]
    assert defined["method_name"] == "tensorflow/serving/predict"
    assert defined["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert defined["inputs"]["image_bytes"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert set(defined["outputs"]) == {"classes", "scores", "probabilities"}


def test_a_page_may_run_what_stands_in_it_and_nothing_else():
    from kerasft.serve import routes

    policy = routes.content_security_policy("<style>p{}</style><script>\nlet a = 1;\n</script>")
    found = dict(part.split(" ", 1) for part in policy.split("; "))
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"p{}", b"\nlet a = 1;\n")]
    assert (found["style-src"], found["script-src"]) == tuple(f"'sha256-{digest}'" for digest in digests)
    assert found["default-src"] == "'none'"
    assert "script-src 'none'" in routes.content_security_policy("<p>nothing</p>")
