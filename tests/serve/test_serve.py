"""`--mode=serve` as its callers see it: one server in a process of its own, real HTTP, versions that come and go."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

httpx = pytest.importorskip("httpx")
pytest.importorskip("kserve")
from served import CLASSES, b64, exported, photo  # noqa: E402
from test_image_checks import png_bomb  # noqa: E402

KEY = "a key"
FLAGS = ("--max_body_mb=1", "--max_megapixels=4", "--max_queue=16", "--max_batch=8", "--timeout_seconds=3", "--port=0")
MODEL = "/v1/models/shapes"


class Server:
    """A running server: its process, what it says, and a client that has the key."""

    def __init__(self, model: Path, root: Path, *flags: str, python=sys.executable, environment=None):
        self.said = root / "said.txt"
        (root / "keys").write_text(KEY + "\n")
        line = [
            str(python),
            "-m",
            "kerasft.run",
            "--mode=serve",
            f"--model={model}",
            f"--api_key_file={root / 'keys'}",
        ]
        environment = environment or {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
        with self.said.open("w") as file:
            settings = {"cwd": root, "env": environment, "stdout": file, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen([*line, *FLAGS, *flags], **settings)

    def open(self) -> None:
        """Waits until it listens."""
        self.url = self.wait_for(r"page (http://127\.0\.0\.1:\d+)/")
        self.client = httpx.Client(base_url=self.url, headers={"x-api-key": KEY}, timeout=20)

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(pattern, self.said.read_text()):
                return found[found.re.groups]
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} was not said: {self.said.read_text()}")

    def predict(self, body: dict, path: str = MODEL) -> httpx.Response:
        return self.client.post(f"{path}:predict", json=body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the server watches: version 1 of `shapes`."""
    folder = tmp_path_factory.mktemp("saved_models") / "shapes"
    exported(folder / "1", seed=1)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, folder):
    running = Server(folder, tmp_path_factory.mktemp("server"))
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def versions(tmp_path_factory, server, folder) -> list[Path]:
    """Two SavedModels that answer differently; the second is made while the server starts."""
    second = exported(tmp_path_factory.mktemp("versions") / "2", seed=2)
    first = shutil.copytree(folder / "1", second.parent / "1")
    return [first, second]


@pytest.fixture(scope="module")
def bare(versions):
    """What the bare SavedModels say of images."""
    import tensorflow as tf

    loaded = [tf.saved_model.load(str(path)) for path in versions]

    def say(contents: list[bytes], version: int = 1) -> dict:
        found = loaded[version - 1].signatures["serving_default"](image_bytes=tf.constant(contents))
        return {name: value.numpy() for name, value in found.items()}

    return say


@pytest.fixture(autouse=True, scope="module")
def _opened(server, bare):
    server.open()
    yield
    server.client.close()


PHOTOS = [photo(seed) for seed in range(6)]


def test_rows_and_columns_answer_to_the_bit(server, bare):
    expected = bare(PHOTOS)
    bodies = (
        {"instances": [b64(one) for one in PHOTOS]},
        {"instances": [{"image_bytes": b64(one)} for one in PHOTOS], "signature_name": "serving_default"},
        {"inputs": [b64(one) for one in PHOTOS]},
        {"inputs": {"image_bytes": [b64(one) for one in PHOTOS]}},
    )
    for body in bodies:
        answer = server.predict(body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        given = answer.json()
        if "predictions" in given:
            columns = {name: [row[name] for row in given["predictions"]] for name in expected}
        else:
            columns = given["outputs"]
        assert columns["classes"] == [[name.decode() for name in row] for row in expected["classes"]]
        np.testing.assert_array_equal(np.float32(columns["probabilities"]), expected["probabilities"])


def test_every_format_and_any_content_type(server, bare):
    for kind in ("PNG", "GIF", "BMP", "WEBP"):
        contents = photo(1, kind)
        body = json.dumps({"instances": [b64(contents)]})
        for content_type in ("application/json; charset=utf-8", "application/x-www-form-urlencoded"):
            answer = server.client.post(f"{MODEL}:predict", content=body, headers={"content-type": content_type})
            given = np.float32(answer.json()["predictions"][0]["scores"])
            np.testing.assert_array_equal(given, bare([contents])["scores"][0])


def test_together_answers_are_as_alone(server, bare):
    """In company the batch differs, and with it perhaps the last bits."""
    answers = [None] * 30

    def ask(index):
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
            while (
                answer := client.post(f"{MODEL}:predict", json={"inputs": b64(PHOTOS[index % 6])})
            ).status_code == 429:
                time.sleep(0.1)
        answers[index] = answer.json()["outputs"]["scores"][0]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(30)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    np.testing.assert_allclose(answers, np.tile(bare(PHOTOS)["scores"], (5, 1)), rtol=1e-6, atol=1e-6)


def test_status_metadata_and_about_are_told(server):
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.client.get(MODEL).json() == {"model_version_status": [status]}
    assert server.client.get(f"{MODEL}/versions/1").json() == {"model_version_status": [status]}
    metadata = server.client.get(f"{MODEL}/metadata").json()
    assert metadata["model_spec"] == {"name": "shapes", "signature_name": "", "version": "1"}
    assert set(metadata["metadata"]["signature_def"]["signature_def"]) >= {"serving_default", "images", "features"}
    limits = {"body_bytes": 1_000_000, "pixels": 4_000_000, "pictures": 16}
    read_metadata = {"name": "shapes", "version": 1, "run": "run-1", "task": "single_label", "classes": list(CLASSES)}
    read_metadata |= {"image_size": 32, "framing": "crop", "limits": limits}
    assert server.client.get("/about").json() == read_metadata


def test_each_answer_names_its_version(server):
    given = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [b64(PHOTOS[0])["b64"]]}
    for path in (f"{MODEL}:predict", f"{MODEL}/versions/1:predict", "/v2/models/shapes/infer"):
        body = {"inputs": [given]} if "infer" in path else {"instances": [b64(PHOTOS[0])]}
        answer = server.client.post(path, json=body)
        assert (answer.status_code, answer.headers["x-model-version"]) == (200, "1")


def test_requests_of_other_kinds_are_refused_in_words(server):
    event = {"specversion": "1.0", "id": "1", "source": "x", "type": "x", "time": "x"}
    body = json.dumps({**event, "data": {"instances": [b64(PHOTOS[0])]}})
    headers = {"content-type": "application/cloudevents+json"}
    answer = server.client.post(f"{MODEL}:predict", content=body, headers=headers)
    assert (answer.status_code, list(answer.json())) == (415, ["error"])
    answer = server.client.post(f"{MODEL}:explain", json={"instances": [b64(PHOTOS[0])]})
    assert (answer.status_code, list(answer.json())) == (501, ["error"])


def test_the_open_inference_protocol_with_json_and_binary(server, bare):
    base = "/v2/models/shapes"
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get(f"{base}/ready").json() == {"name": "shapes", "ready": True}
    assert server.client.get("/v2").json()["name"] == "kserve"
    metadata = server.client.get(base).json()
    assert metadata["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["versions"] == ["1"]
    expected = bare(PHOTOS[:2])["scores"]
    tensor = {"name": "image_bytes", "shape": [2], "datatype": "BYTES"}
    data = [b64(one)["b64"] for one in PHOTOS[:2]]
    answer = server.client.post(f"{base}/infer", json={"id": "7", "inputs": [tensor | {"data": data}]}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "shapes", "1")
    scores = next(one for one in answer["outputs"] if one["name"] == "scores")
    assert (scores["shape"], scores["datatype"]) == ([2, 2], "FP32")
    np.testing.assert_array_equal(np.float32(scores["data"]).reshape(2, 2), expected)
    binary = b"".join(len(one).to_bytes(4, "little") + one for one in PHOTOS[:2])
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}]
    head = {"inputs": [tensor | {"parameters": {"binary_data_size": len(binary)}}], "outputs": wanted}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = server.client.post(f"{base}/versions/1/infer", content=text + binary, headers=headers)
    place = int(answer.headers["inference-header-content-length"])
    np.testing.assert_array_equal(np.frombuffer(answer.content[place:], np.float32).reshape(2, 2), expected)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{nope", 400, "Unrecognized request format"),
        ({"instances": [{"b64": "$$$"}]}, 400, "instances[0]: is not base64"),
        ({"instances": [b64(PHOTOS[0]), b64(b"hello")]}, 400, "instances[1]: the image must have one of the formats"),
        ({"instances": [b64(PHOTOS[0]), b64(PHOTOS[1][:900])]}, 400, "instances[1]: cannot be decoded"),
        ({"inputs": [b64(png_bomb(3000))]}, 400, "inputs[0]: an image may have at most 4,000,000 pixels"),
        ({"instances": [b64(PHOTOS[0])] * 17}, 413, "a request may have at most 16 images"),
        (b"x" * 1_000_001, 413, "at most 1,000,000 bytes"),
        ({"instances": [1], "signature_name": "no"}, 400, "signature_name: must be one of"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(server, body, status, text):
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = server.client.post(f"{MODEL}:predict", content=content)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert text in answer.json()["error"]


def test_a_bad_image_does_not_fail_those_beside_it(server, bare):
    found = {}

    def ask(name, contents):
        with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}, timeout=20) as client:
            found[name] = client.post(f"{MODEL}:predict", json={"instances": [b64(contents)]})

    for _ in range(5):
        pairs = [("good", PHOTOS[0]), ("bad", PHOTOS[1][:900]), ("also", PHOTOS[2])]
        threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert {name: one.status_code for name, one in found.items()} == {"good": 200, "bad": 400, "also": 200}


def test_unknown_models_versions_and_paths_are_404(server):
    body = {"instances": [b64(PHOTOS[0])]}
    for path in ("/v1/models/other", f"{MODEL}/versions/9"):
        assert server.predict(body, path).status_code == 404
        assert server.client.get(path).status_code == 404
    for path in ("/nowhere", "/v2/models/other", "/v2/models/shapes/versions/9/ready"):
        answer = server.client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert server.client.post("/v2/repository/models/shapes/unload").status_code == 404
    assert server.client.post(MODEL).status_code == 405
    assert server.predict(body, f"{MODEL}/versions/1").status_code == 200


def test_a_key_is_needed_but_for_health_and_the_page(server):
    with httpx.Client(base_url=server.url) as stranger:
        answer = stranger.post(f"{MODEL}:predict", json={"instances": [b64(PHOTOS[0])]})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert stranger.get("/about").status_code == stranger.get("/metrics").status_code == 401
        assert stranger.get("/v2/health/ready").status_code == 200
        page = stranger.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_full_queue_answers_429(server):
    statuses = []

    def ask():
        with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}, timeout=20) as client:
            answer = client.post(f"{MODEL}:predict", json={"instances": [b64(one) for one in (PHOTOS * 3)[:16]]})
            statuses.append((answer.status_code, answer.headers.get("retry-after")))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(statuses) == {(200, None), (429, "1")}


def test_a_body_that_dribbles_is_cut_off(server):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=10) as line:
        head = f"POST {MODEL}:predict HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
        line.sendall(head.encode())
        began, answer = time.monotonic(), b""
        line.settimeout(0.2)
        while time.monotonic() - began < 10:
            try:
                piece = line.recv(1000)
                if not piece:
                    break
                answer += piece
            except TimeoutError:
                line.sendall(b"1\r\n \r\n")
    assert b" 408 " in answer
    assert 2.5 < time.monotonic() - began < 6


def test_metrics_count(server):
    server.predict({"instances": [b64(PHOTOS[0])]})
    text = server.client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    assert float(figures["kerasft_model_version"]) == 1
    assert float(figures['kerasft_requests_total{code="200"}']) > 10
    assert float(figures['kerasft_requests_total{code="401"}']) >= 1
    assert float(figures["kerasft_pictures_total"]) > 100
    assert float(figures["kerasft_batch_pictures_count"]) < float(figures["kerasft_pictures_total"])
    assert float(figures["kerasft_queue_pictures"]) == 0


def test_versions_come_and_go_under_requests_and_none_fails(server, folder, versions, bare):
    """A new one answers, a broken one is skipped, and without it the one before answers again."""
    right = {number: bare(PHOTOS[:1], number)["scores"][0] for number in (1, 2)}
    assert abs(right[1] - right[2]).max() > 1e-3
    failed, seen, ended = [], [], threading.Event()

    def ask():
        with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}, timeout=20) as client:
            while not ended.is_set():
                answer = client.post(f"{MODEL}:predict", json={"inputs": b64(PHOTOS[0])})
                if answer.status_code != 200:
                    failed.append(answer.text)
                    return
                given = np.float32(answer.json()["outputs"]["scores"][0])
                near = [number for number, scores in right.items() if np.allclose(given, scores, atol=1e-6)]
                failed.extend([given] if not near else [])
                seen.extend(near)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    try:
        shutil.copytree(versions[1], folder / ".draft")
        (folder / ".draft").rename(folder / "2")
        server.wait_for("version 2 is in use now, instead of version 1")
        (folder / ".draft").mkdir()
        (folder / ".draft" / "saved_model.pb").write_bytes(b"broken")
        (folder / ".draft").rename(folder / "3")
        server.wait_for("3 cannot be loaded and is skipped")
        assert server.client.get("/about").json()["version"] == 2
        assert server.predict({"inputs": b64(PHOTOS[0])}, f"{MODEL}/versions/1").status_code == 404
        shutil.rmtree(folder / "2")
        server.wait_for("version 1 is in use now, instead of version 2")
        # A request keeps the version that it began with, so only one that begins now must have version 1.
        last = server.predict({"inputs": b64(PHOTOS[0])}).json()["outputs"]["scores"][0]
    finally:
        ended.set()
        for one in threads:
            one.join()
    assert failed == []
    assert set(seen) == {1, 2}
    assert seen[0] == 1
    np.testing.assert_allclose(np.float32(last), right[1], atol=1e-6)
    assert server.said.read_text().count("is skipped") == 1


def test_sigterm_answers_what_has_come_and_exits_with_0(server):
    """The last test: a request whose body is still on its way when the signal comes."""
    address = httpx.URL(server.url)
    body = json.dumps({"instances": [b64(PHOTOS[0])]}).encode()
    with socket.create_connection((address.host, address.port), timeout=10) as line:
        head = f"POST {MODEL}:predict HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall(head.encode() + body[:100])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/v2/health/live")
        line.sendall(body[100:])
        answer = b""
        while piece := line.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"predictions"' in answer
    assert server.process.wait(20) == 0
    text = server.said.read_text()
    assert "Traceback" not in text
    assert "Warning" not in text
    assert base64.b64encode(PHOTOS[0])[:40].decode() not in text
