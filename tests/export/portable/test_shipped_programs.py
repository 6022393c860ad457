"""What is shipped with a portable model, where nothing else is installed: the program in an environment of its own, the page in a browser."""

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import browser
import numpy as np
import pytest
from served import CLASSES, artefact, exported, photo

from kerasft import runtimes

pytestmark = pytest.mark.large

SIZES = [(60, 48), (33, 190), (320, 240), (32, 32), (65, 64)]


def _photos(folder: Path, kind: str) -> list[Path]:
    """Images that are enlarged, kept, and shrunk by area and bilinearly."""
    folder.mkdir()
    for seed in range(20):
        (folder / f"{seed:02d}.{kind.lower()}").write_bytes(photo(seed, kind, SIZES[seed % len(SIZES)]))
    return sorted(folder.iterdir())


def _answers(python: str | Path, folder: Path, files: list[Path], **options) -> list[dict]:
    """What `predict.py` of a folder prints."""
    line = [python, folder / "predict.py", *files]
    done = subprocess.run(line, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("form", ["onnx", "litert", "openvino"])
def test_the_program_runs_where_only_its_requirements_are_installed(form, tmp_path):
    files, folder = _photos(tmp_path / "photos", "JPEG"), artefact(tmp_path / form, form)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", "-r", folder / "requirements.txt"]
    if (done := subprocess.run(install, capture_output=True, text=True)).returncode:
        pytest.skip(f"pip cannot install the runtime: {done.stderr.strip()[-200:]}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = _answers(python, folder, files, cwd=tmp_path, env=environment)
    model = runtimes.load(exported(tmp_path / "saved" / "1"))
    expected = model.signatures["serving_default"].call([file.read_bytes() for file in files])["probabilities"]
    assert [row["label"] for row in found] == [CLASSES[index] for index in expected.argmax(-1)]
    # JPEGs have other pixels in another decoder.
    np.testing.assert_allclose([list(row["probabilities"].values()) for row in found], expected, atol=0.02)
    for package in ("tensorflow", "keras", "kerasft"):
        lacks = subprocess.run([python, "-c", f"import {package}"], capture_output=True, cwd=tmp_path, env=environment)
        assert lacks.returncode


@pytest.fixture(scope="module")
def onnxruntime_web(tmp_path_factory):
    """The folder `node_modules` with the runtime of browsers."""
    if not browser.BINARY or not shutil.which("npm"):
        pytest.skip("needs Chromium and npm")
    root = tmp_path_factory.mktemp("web")
    done = subprocess.run(["npm", "install", "--silent", "onnxruntime-web"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-web: {done.stderr.strip()[-200:]}")
    return root / "node_modules"


@pytest.mark.parametrize("framing", ["crop", "pad", "squash"])
def test_the_page_answers_as_the_program_does(framing, onnxruntime_web, tmp_path):
    files, folder = _photos(tmp_path / "photos", "PNG"), artefact(tmp_path / "onnx", "onnx")
    about = json.loads((folder / "model.json").read_text()) | {"framing": framing}
    (folder / "model.json").write_text(json.dumps(about))
    expected = [list(row["probabilities"].values()) for row in _answers(sys.executable, folder, files)]
    (folder / "node_modules").symlink_to(onnxruntime_web)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.chromium() as page:
            page.open(f"http://127.0.0.1:{server.server_address[1]}/index.html")
            until = time.monotonic() + 30
            while not page.run("!!window.answer"):
                assert time.monotonic() < until, page.run("document.body.innerText")
                time.sleep(0.1)
            assert "2 labels. Choose images." in page.run("document.body.innerText")
            found = []
            for file in files:
                data = base64.b64encode(file.read_bytes()).decode()
                script = f"fetch('data:image/png;base64,{data}').then((one) => one.blob()).then(answer)"
                found.append(page.run(script))
        server.shutdown()
    np.testing.assert_allclose(found, expected, atol=1e-4)
