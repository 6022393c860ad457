"""One contract of loaded models: an artefact answers like the SavedModel of the same network, and needs no TensorFlow."""

import io
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from served import artefact, exported, photo

from kerasft import runtimes
from kerasft.export import proof
from kerasft.runtimes import loading
from kerasft.settings.errors import UserError

# Both runtimes, and each task by one of them.
PAIRS = (
    ("onnx", "single_label"),
    ("litert", "single_label"),
    pytest.param(("litert", "multi_label"), marks=pytest.mark.large),
    pytest.param(("litert", "regression"), marks=pytest.mark.large),
)
PHOTOS = [photo(seed, "PNG", (32, 32)) for seed in range(11)]


class Made(dict):
    """What a function makes of a key, when it is first asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, key):
        self[key] = self.make(key)
        return self[key]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each artefact, made once."""
    root = tmp_path_factory.mktemp("exports")
    for name in ("onnx", "ai_edge_litert"):
        pytest.importorskip(name)
    return Made(lambda pair: artefact(root / pair[1] / "1" / pair[0], pair[0], task=pair[1]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved_models")
    return Made(lambda task: runtimes.load(exported(root / task / "1", task=task)))


@pytest.mark.parametrize("pair", PAIRS)
def test_an_artefact_answers_like_the_saved_model(folders, saved, pair):
    ours, model = saved[pair[1]], runtimes.load(folders[pair])
    # Images of this size are not resized, so both decoders give the same pixels.
    pixels = list(np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32))
    for name, instances in (("serving_default", PHOTOS), ("images", pixels)):
        given, expected = (one.signatures[name].call(instances) for one in (model, ours))
        assert list(given) == list(expected) == list(ours.signatures[name].outputs)
        for key, values in expected.items():
            assert given[key].dtype == values.dtype and given[key].shape == values.shape
            if values.dtype.kind == "f":
                np.testing.assert_allclose(given[key], values, atol=proof.TOLERANCE)
            else:
                assert given[key].tolist() == values.tolist()


@pytest.mark.parametrize("pair", PAIRS)
def test_an_artefact_describes_its_signatures_like_the_saved_model(folders, saved, pair):
    ours, model = saved[pair[1]], runtimes.load(folders[pair])
    assert sorted(model.signatures) == ["images", "serving_default"]
    for name, signature in model.signatures.items():
        assert signature[:3] == ours.signatures[name][:3]
        told, known = model.definitions[name], ours.definitions[name]
        assert told["method_name"] == known["method_name"]
        for side in ("inputs", "outputs"):
            # The names of tensors are those of a graph, which an artefact does not have.
            plain = [{key: one | {"name": ""} for key, one in given[side].items()} for given in (told, known)]
            assert plain[0] == plain[1]
    same = ("run", "task", "classes", "image_size", "framing")
    assert [model.metadata[key] for key in same] == [ours.metadata[key] for key in same]


def test_an_artefact_with_rounded_weights_answers_nearly_like_the_saved_model(folders, saved):
    call = runtimes.load(folders["keras", "multi_label"]).signatures["serving_default"].call
    given, expected = (one(PHOTOS) for one in (call, saved["multi_label"].signatures["serving_default"].call))
    assert list(given) == list(expected)
    np.testing.assert_allclose(given["probabilities"], expected["probabilities"], atol=0.02)


@pytest.mark.large
def test_an_artefact_with_rounded_weights_may_have_any_layer_of_ours(folders):
    code = "import sys; from pathlib import Path; from kerasft import runtimes; runtimes.load(Path(sys.argv[1])); import keras; "
    code += "print([keras.saving.get_registered_object(f'kerasft>{name}') for name in ('HubLayer', 'GeM')])"
    words = [str(folders["keras", "multi_label"])]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "None" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_several_threads_may_ask_at_once(folders, form):
    call = runtimes.load(folders[form, "single_label"]).signatures["serving_default"].call
    expected = call(PHOTOS)["probabilities"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: call([PHOTOS[index]])["probabilities"][0], list(range(11)) * 6))
    np.testing.assert_allclose(found, np.tile(expected, (6, 1)), atol=1e-6)


def far_frame():
    """A GIF whose frame lies outside of its stated size. Pillow enlarges the image, TensorFlow does not."""
    contents = bytearray(photo(0, "GIF"))
    place = contents.index(b"\x2c\0\0\0\0")
    contents[place + 1 : place + 5] = (100).to_bytes(2, "little") * 2
    return bytes(contents)


def one_bit_bmp():
    file = io.BytesIO()
    Image.open(io.BytesIO(PHOTOS[0])).convert("1").save(file, "BMP")
    return file.getvalue()


def opaque_animated_webp():
    frames, file = [Image.open(io.BytesIO(contents)) for contents in PHOTOS[:3]], io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    "contents",
    [photo(1)[:900], photo(1, "TIFF"), b"", photo(0, "PNG")[:60], far_frame()],
    ids=["cut", "tiff", "empty", "header", "two sizes"],
)
def test_an_image_that_cannot_be_decoded_is_refused(folders, contents):
    call = runtimes.load(folders["litert", "single_label"]).signatures["serving_default"].call
    with pytest.raises(runtimes.InvalidImage):
        call([PHOTOS[0], contents])


@pytest.mark.parametrize("make", [one_bit_bmp, opaque_animated_webp])
def test_an_image_that_the_saved_model_refuses_is_refused(folders, saved, make):
    for model in (runtimes.load(folders["litert", "single_label"]), saved["single_label"]):
        with pytest.raises(runtimes.InvalidImage):
            model.signatures["serving_default"].call([PHOTOS[0], make()])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.tflite", b"", "the LiteRT artefact cannot be loaded"),
        ("model.json", b"{", "model.json and labels.txt in its folder must be those that kerasft wrote"),
        ("model.json", b'{"task": "x", "image_size": 32}', "must be those that kerasft wrote"),
        ("labels.txt", b"a\nb\nc\n", r"the model gives 2 answers, labels.txt has 3 names"),
        ("model.json", json.dumps({"task": "multi_label", "image_size": 32}).encode(), "must be as many"),
        ("model.json", json.dumps({"task": "single_label", "image_size": 33}).encode(), "cannot be loaded"),
    ],
)
def test_a_damaged_artefact_is_one_message(folders, tmp_path, file, content, message):
    folder = shutil.copytree(folders["litert", "single_label"], tmp_path / "litert")
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"^--model: .*{message}.* Received: '{folder}'"):
        runtimes.load(folder)


def test_a_missing_runtime_is_named_with_its_extra(folders, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--model: .*ONNX.* needs the package onnxruntime: pip install 'kerasft\[lite\]'"
    ):
        runtimes.load(folders["onnx", "single_label"])


def test_the_program_in_the_folder_is_not_run(folders, tmp_path):
    folder = shutil.copytree(folders["litert", "single_label"], tmp_path / "litert")
    for name in ("runtime.py", "image_decoding.py", "predict.py"):
        (folder / name).write_text("raise SystemExit('run')")
    assert runtimes.load(folder).signatures["serving_default"].call(PHOTOS)["scores"].shape == (11, 2)


PREDICT = """
import sys
from kerasft.predict import label_images
assert label_images.predict(sys.argv[1], sys.argv[2], "") == 0
"""
SERVE = """
import sys
from pathlib import Path
from kerasft.serve import open_inference_v2, repository, routes, server, tfserving_v1, versions
from kerasft.serve.limits import Limits
version = repository.load_newest(versions.find_source(sys.argv[1]), 4)
body = {"instances": [Path(sys.argv[2]).read_bytes()] * 3}
asked = tfserving_v1.parse_request(body, version, Limits(10**6, 10**6, 8, 4, 0, 5))
print(tfserving_v1.format_response(asked.signature.call(asked.instances), True))
"""


@pytest.mark.parametrize(("form", "code"), [("onnx", PREDICT), ("litert", SERVE)], ids=["predict", "serve"])
def test_no_tensorflow_is_needed(folders, tmp_path, form, code):
    if code == SERVE:
        pytest.importorskip("kserve")
    (tmp_path / "a.png").write_bytes(PHOTOS[0])
    code += "print([name for name in ('tensorflow', 'keras', 'sklearn', 'scipy') if name in sys.modules])"
    words = [str(folders[form, "single_label"]), str(tmp_path / "a.png")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told, modules = done.stdout.splitlines()[-2:]
    assert modules == "[]" and ("disc" in told and "square" in told)
