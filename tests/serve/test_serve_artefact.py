"""`kerasft serve` with an artefact for another runtime: real HTTP, a new version, and a machine without TensorFlow."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

httpx = pytest.importorskip("httpx")
pytest.importorskip("kserve")
pytest.importorskip("tf2onnx")
from served import CLASSES, artefact, b64, exported, photo  # noqa: E402
from test_serve import MODEL, Server  # noqa: E402

pytestmark = pytest.mark.large
PHOTOS = [photo(seed, "PNG", (32, 32)) for seed in range(3)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """Two versions of `shapes` in ONNX, not in one folder yet, and the scores that TensorFlow gives."""
    import tensorflow as tf

    root, scores = tmp_path_factory.mktemp("versions"), []
    for seed in (1, 2):
        artefact(root / "shapes" / str(seed) / "onnx", "onnx", seed=seed)
        loaded = tf.saved_model.load(str(exported(root / "saved" / str(seed), seed=seed)))
        scores.append(loaded.signatures["serving_default"](image_bytes=tf.constant(PHOTOS))["probabilities"].numpy())
    (root / "shapes" / "2").rename(root / "2")
    return root, scores


@contextlib.contextmanager
def opened(server: Server):
    """Waits until a server listens, and ends it afterwards."""
    try:
        server.open()
        with server.client:
            yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_both_protocols_versions_and_no_tensorflow(models, tmp_path):
    root, scores = models
    folder = shutil.copytree(root / "shapes", tmp_path / "shapes")
    with opened(Server(folder, tmp_path, "--artefact=onnx")) as server:
        found = server.predict({"instances": [b64(one) for one in PHOTOS]}).json()["predictions"]
        np.testing.assert_allclose([row["probabilities"] for row in found], scores[0], atol=1e-4)
        assert [row["classes"][0] for row in found] == [CLASSES[row.argmax()] for row in scores[0]]
        assert server.client.get(f"{MODEL}/versions/1").status_code == 200
        about = server.client.get("/about").json()
        assert (about["version"], about["classes"], about["image_size"]) == (1, list(CLASSES), 32)
        assert server.client.get("/v2/health/ready").json() == {"ready": True}
        assert server.client.get("/v2/models/shapes").json()["platform"] == "onnx_onnxv1"
        tensor = {"name": "image_bytes", "shape": [3], "datatype": "BYTES", "data": [b64(one)["b64"] for one in PHOTOS]}
        wanted = {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}
        (output,) = server.client.post("/v2/models/shapes/infer", json=wanted).json()["outputs"]
        np.testing.assert_allclose(np.reshape(output["data"], (3, 2)), scores[0], atol=1e-4)
        # What an artefact does not have.
        refused = server.predict({"instances": [b64(PHOTOS[0])], "signature_name": "features"})
        assert (refused.status_code, "one of images, serving_default" in refused.json()["error"]) == (400, True)
        refused = server.client.post("/v2/models/shapes/infer", json=wanted | {"outputs": [{"name": "known"}]})
        assert (refused.status_code, "outputs: must be of" in refused.json()["error"]) == (400, True)
        refused = server.predict({"instances": [b64(PHOTOS[0]), b64(photo(1)[:900])]})
        assert (refused.status_code, "instances[1]: cannot be decoded" in refused.json()["error"]) == (400, True)
        if Path("/proc").is_dir():
            assert "tensorflow" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        shutil.copytree(root / "2", tmp_path / "new")
        (tmp_path / "new").rename(folder / "2")
        server.wait_for("version 2 is in use now")
        found = server.predict({"instances": [b64(one) for one in PHOTOS]}).json()["predictions"]
        np.testing.assert_allclose([row["probabilities"] for row in found], scores[1], atol=1e-4)


def test_a_machine_without_tensorflow_serves_and_predicts(models, tmp_path):
    """As docs/serving.md installs it. The packages come from the index that pip is set up for."""
    root, scores = models
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "saved_models", "exports", "build"))
    wanted = ["-r", str(ROOT / "docs/serving/without_tensorflow.txt"), "filelock", "pyarrow", "onnxruntime"]
    for words in (["--no-deps", str(source)], wanted):
        done = subprocess.run([python, "-m", "pip", "install", "-q", *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"pip cannot install {words[-1]}: {done.stderr.strip()[-200:]}")
    (tmp_path / "images").mkdir()
    for index, contents in enumerate(PHOTOS):
        (tmp_path / "images" / f"{index}.png").write_bytes(contents)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = [python, "-m", "kerasft", "predict", f"--model={root}/shapes/1/onnx", f"--images={tmp_path}/images"]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*run, f"--out={tmp_path}/out.jsonl"], **options)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["labels"][0]["class"] for line in lines] == [CLASSES[row.argmax()] for row in scores[0]]
    done = subprocess.run([*run[:4], f"--model={root}/saved", run[-1]], **options)
    assert (done.returncode, "needs the package tensorflow: pip install 'kerasft'" in done.stderr) == (2, True)
    done = subprocess.run([python, "-m", "kerasft", "train", "--data=digits"], **options)
    assert (done.returncode, done.stderr.startswith("this needs the package ")) == (2, True)
    with opened(Server(root / "shapes", tmp_path, python=python, environment=environment)) as server:
        found = server.predict({"instances": [b64(one) for one in PHOTOS]}).json()["predictions"]
        np.testing.assert_allclose([row["probabilities"] for row in found], scores[0], atol=1e-4)
