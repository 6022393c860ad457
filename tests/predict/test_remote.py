"""A server as the model: the rows of the SavedModel itself, patience with a busy one, plain words for all else."""

import base64
import functools
import io
import json
import shutil
import threading
import time
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote

import exported
import numpy as np
import pytest
from conftest import write
from PIL import Image

from kerasft.predict import http_json, label_images, local, remote
from kerasft.settings.errors import UserError


class Server(ThreadingHTTPServer):
    """TensorFlow Serving's REST predict API over exported SavedModels, and what goes wrong on purpose.

    Attributes:
        models: name to SavedModel.
        trouble: statuses (with headers) that the next predictions get.
        key: that is asked for, if any.
        asked: images in each prediction.
        version, read_metadata: what is said at these places.
    """

    daemon_threads = True

    def __init__(self, models: dict):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.trouble, self.asked = models, [], []
        self.key, self.version, self.read_metadata, self.body = "", "1", None, None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/models/{name}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status: int, metadata, headers=()) -> None:
        body = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refused(self) -> bool:
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.answer(401, {"error": "a key is needed"})
            return True
        return False

    def do_GET(self):
        if self.refused():
            return
        name = unquote(self.path.rpartition("/")[2])
        if self.path == "/about" and self.server.read_metadata:
            self.answer(200, self.server.read_metadata)
        elif name in self.server.models:
            rows = [{"version": "0", "state": "END"}, {"version": self.server.version, "state": "AVAILABLE"}]
            self.answer(200, {"model_version_status": rows})
        else:
            self.answer(404, {"error": f"Could not find any versions of model {name}"})

    def do_POST(self):
        import tensorflow as tf

        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        if self.server.trouble:
            status, headers = self.server.trouble.pop()
            return self.answer(status, {"error": "later"}, headers)
        if self.server.body is not None:
            return self.answer(200, self.server.body)
        contents = [base64.b64decode(row["b64"]) for row in sent["instances"]]
        self.server.asked.append(len(contents))
        name = unquote(self.path.rpartition("/")[2].removesuffix(":predict"))
        serve = self.server.models[name].signatures["serving_default"]
        try:
            given = {name: value.numpy() for name, value in serve(image_bytes=tf.constant(contents)).items()}
        except tf.errors.InvalidArgumentError as error:
            return self.answer(400, {"error": error.message})
        # A float32 is written as short as it can be read back from, and a single output has no name.
        lists = {name: _plain(value) for name, value in given.items()}
        rows = [dict(zip(lists, row)) for row in zip(*lists.values())]
        self.answer(200, {"predictions": [row["values"] for row in rows] if list(lists) == ["values"] else rows})


def _plain(value: np.ndarray) -> list:
    if value.dtype == object:
        return [[name.decode() for name in row] for row in value]
    return [[float(str(x)) if value.dtype == np.float32 else bool(x) for x in row] for row in value]


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    import tensorflow as tf

    load = functools.cache(local.load)
    folders = {task: exported.saved_model(task, tiny, tmp_path_factory) for task in exported.NAMES}
    server = Server({task: tf.saved_model.load(str(folder / "1")) for task, folder in folders.items()})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "load", load)
        yield server, folders
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(served, monkeypatch):
    """The server as new, and a patience for tests."""
    server, _ = served
    server.trouble, server.asked, server.key, server.version, server.read_metadata, server.body = (
        [],
        [],
        "",
        "1",
        None,
        None,
    )
    monkeypatch.setattr(http_json, "RETRY_SECONDS", 10)
    monkeypatch.delenv(http_json.KEY_VARIABLE, raising=False)
    return server


@pytest.fixture(scope="module")
def photos70(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("remote")
    for index in range(70):
        write(root / f"{index:03d}.png", "disc", index)
    (root / "bad.jpg").write_bytes(b"no image")
    (root / "empty.jpg").touch()
    return root


@pytest.mark.parametrize("task", list(exported.NAMES))
def test_a_server_says_what_its_model_says(task, server, served, photos70, tmp_path):
    """Bit for bit, names and errors too, in the form that holds most."""
    model = str(served[1][task])
    assert label_images.predict(model, str(photos70), str(tmp_path / "local.parquet")) == 2
    for name, given in (("named", model), ("bare", "")):
        assert label_images.predict(given, str(photos70), str(tmp_path / f"{name}.parquet"), server.url(task)) == 2
    assert (tmp_path / "local.parquet").read_bytes() == (tmp_path / "named.parquet").read_bytes()
    import pyarrow.parquet as pq

    bare, own = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("bare", "local"))
    if task == "single_label":  # TensorFlow Serving tells the best five
        assert bare.equals(own)
    elif task == "regression":
        assert bare.column_names == ["path", "value_0", "value_1", "error"]
        assert bare.rename_columns(own.column_names).equals(own)
    else:
        assert bare.drop_columns("labels").equals(own.drop_columns("labels"))
        pairs = zip(bare["labels"].to_pylist(), own["labels"].to_pylist())
        assert all(a == b if b is None or len(b) <= 5 else a[:5] == b[:5] for a, b in pairs)
    assert max(server.asked) == 32


def test_names_are_those_that_kerasfts_server_tells(server, photos70, tmp_path):
    names = list(exported.NAMES["regression"])
    server.read_metadata = {"name": "regression", "task": "regression", "classes": names}
    label_images.predict("", f"{photos70}/00*.png", str(tmp_path / "o.csv"), server.url("regression") + ":predict")
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == "path,angle,height,error"
    server.read_metadata = {"name": "regression", "task": "regression", "classes": ["one"]}
    with pytest.raises(UserError, match="has 1 classes, the server's has 2"):
        label_images.predict("", f"{photos70}/00*.png", str(tmp_path / "p.csv"), server.url("regression"))


def _says_of_about(monkeypatch, *answers) -> None:
    """A server of a model x whose `/about` gives one answer after the other: a status, or an exception."""
    left = [HTTPError("", one, "no", Message(), io.BytesIO()) if isinstance(one, int) else one for one in answers]

    def send(url, *_):
        if url.endswith("/about") and isinstance(answer := left.pop(0), Exception):
            raise answer
        return answer if url.endswith("/about") else {}

    monkeypatch.setattr(http_json, "send", send)
    monkeypatch.setattr(http_json.time, "sleep", lambda _: None)


@pytest.mark.parametrize("trouble", [503, 408, TimeoutError("timed out"), ConnectionResetError(104, "reset")])
def test_names_are_asked_for_again(trouble, monkeypatch):
    about = {"name": "x", "task": "regression", "classes": ["angle"]}
    _says_of_about(monkeypatch, trouble, about)
    assert remote.connect("http://localhost/v1/models/x").names == ["angle"]


@pytest.mark.parametrize("answer", [404, 400, 401, 307, ValueError("no JSON"), {"name": "y", "classes": ["a"]}, []])
def test_another_server_tells_no_names(answer, monkeypatch):
    _says_of_about(monkeypatch, answer)
    assert remote.connect("http://localhost/v1/models/x").names == []


def test_a_server_that_fails_is_not_taken_for_another_one(monkeypatch):
    _says_of_about(monkeypatch, 500)
    with pytest.raises(UserError, match="--url: the server says 500: 500 no"):
        remote.connect("http://localhost/v1/models/x")


def _named(folder: Path, task: str, names: list[str]) -> str:
    """A local model that has no more than names."""
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").touch()
    (folder / "onnx" / "model.json").write_text(json.dumps({"task": task}))
    (folder / "onnx" / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return str(folder / "onnx")


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("out", ["", "o.csv"])
def test_names_of_another_version_are_refused_by_the_answers(task, out, server, photos70, tmp_path):
    """The same number of classes, one of which came and one of which went."""
    names = [*exported.NAMES[task][1:], "yew"]
    model, out = _named(tmp_path, task, names), out and str(tmp_path / out)
    with pytest.raises(UserError, match=r"--model: calls '.*' what the server's calls '.*'; .* Received: '.*onnx'"):
        label_images.predict(model, f"{photos70}/0*.png", out, server.url(task))
    # The names at /about were asked for before another version took its place.
    server.read_metadata = {"name": task, "task": task, "classes": names}
    with pytest.raises(UserError, match=r"--url: what /about names calls '.*' what the server's calls '.*'"):
        label_images.predict("", f"{photos70}/0*.png", out, server.url(task))
    assert not list(tmp_path.glob("**/*.stretch")) and not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("task", list(exported.NAMES))
def test_names_of_another_version_are_refused_by_what_the_server_tells(task, server, photos70, tmp_path):
    """An answer of values has no names."""
    names = list(exported.NAMES[task])
    server.read_metadata = {"name": task, "task": task, "classes": names}
    assert label_images.predict(_named(tmp_path, task, names), f"{photos70}/00*.png", "", server.url(task)) == 0
    (tmp_path / "onnx" / "labels.txt").write_text("\n".join(names[::-1]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"--model: calls '{names[-1]}' what the server's calls '{names[0]}'"):
        label_images.predict(str(tmp_path / "onnx"), f"{photos70}/00*.png", "", server.url(task))


def _answer(task: str) -> dict:
    """An answer to one image of a model that has the classes or targets a and b."""
    row = {"classes": ["b", "a"], "scores": [0.7, 0.3], "probabilities": [0.3, 0.7], "predicted": [False, True]}
    if task == "regression":
        return {"predictions": [[0.3, 0.7]]}
    return {"predictions": [{name: row[name] for name in row if task == "multi_label" or name != "predicted"}]}


@pytest.mark.parametrize("out", ["", "o.csv"])
@pytest.mark.parametrize("theirs", list(exported.NAMES))
@pytest.mark.parametrize("ours", list(exported.NAMES))
def test_another_task_with_the_same_names_is_refused(ours, theirs, out, photos70, tmp_path, monkeypatch):
    """By what the server tells, and by each answer."""
    model, out, about = _named(tmp_path, ours, ["a", "b"]), out and str(tmp_path / out), {}
    sent = {"about": about, "x": {}, "x:predict": _answer(theirs)}
    monkeypatch.setattr(http_json, "send", lambda url, *_: sent[url.rpartition("/")[2]])
    known = {"name": "x", "task": theirs, "classes": ["a", "b"]}
    for name, told in (("given", {}), ("given", known), ("told", {**known, "task": ours})):
        about.clear()
        about |= told
        line = (model if name == "given" else "", str(photos70 / "000.png"), out, "http://localhost/v1/models/x")
        if ours == theirs:
            assert label_images.predict(*line) == 0
            continue
        flag = "--model:" if name == "given" else "--url: what /about names"
        with pytest.raises(UserError, match=f"{flag} is of the task {ours}, the server's of {theirs}; "):
            label_images.predict(*line)


def test_equal_probabilities_contradict_no_names():
    outputs = {"probabilities": np.float32([[0.2, 0.2, 0.5, 0.1]]), "classes": np.array([["c", "b", "a"]])}
    assert remote._find_fault(outputs, ["a", "b", "c", "d"]) == ""
    assert remote._find_fault(outputs, ["a", "b", "d", "c"]) == "calls 'd' what the server's calls 'c'"
    unknown = {**outputs, "probabilities": np.float32([[np.nan] * 4])}
    assert remote._find_fault(unknown, ["a", "b", "d", "c"]) == ""


def test_a_busy_server_is_asked_again_as_late_as_it_says(server, photos70, tmp_path):
    server.trouble = [(503, [("Retry-After", "1")]), (429, [("Retry-After", formatdate(time.time() + 2))]), (502, [])]
    began = time.monotonic()
    assert label_images.predict("", f"{photos70}/00*.png", str(tmp_path / "o.csv"), server.url("single_label")) == 0
    assert time.monotonic() - began > 1.5
    assert server.asked == [10]


def test_patience_ends_and_what_was_done_stays(server, photos70, tmp_path, monkeypatch):
    from kerasft.predict import chunks

    monkeypatch.setattr(chunks, "CHUNK_SIZE", 32)
    monkeypatch.setattr(remote, "MAX_CONCURRENT_REQUESTS", 1)
    monkeypatch.setattr(http_json, "RETRY_SECONDS", 0.2)
    out, url = str(tmp_path / "o.jsonl"), server.url("single_label")
    calls = []
    sent = http_json.send

    def dies(place, headers, body=None):
        calls.append(place)
        if body and sum(call.endswith(":predict") for call in calls) > 2:
            raise ConnectionRefusedError(111, "Connection refused")
        return sent(place, headers, body)

    monkeypatch.setattr(http_json, "send", dies)
    with pytest.raises(UserError, match=r"no answer within \d seconds .*Connection refused.*the same command resumes"):
        label_images.predict("", f"{photos70}/0*.png", out, url)
    monkeypatch.setattr(http_json, "send", sent)
    server.asked.clear()
    assert label_images.predict("", f"{photos70}/0*.png", out, url) == 0
    assert server.asked == [6]
    assert len(Path(out).read_text().splitlines()) == 70


def test_no_server_is_said_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr(http_json, "RETRY_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"--url: no answer within 0 seconds .*refused.* Received: 'http://127"):
        remote.connect("http://127.0.0.1:9/v1/models/x")


@pytest.mark.parametrize("body", [b"<html>", {"predictions": []}, {"outputs": 1}, {"predictions": [{"x": 1}] * 10}, []])
def test_an_answer_of_another_kind_is_said(server, photos70, body):
    server.body = body
    with pytest.raises(UserError, match=r"--url: (the outputs are not those of a model|the server is no model server)"):
        label_images.predict("", f"{photos70}/00*.png", "", server.url("single_label"))


NO_URLS = [
    "http://192.168..1:8501/v1/models/x",
    "",
    "localhost:8501/v1/models/x",
    "http:///v1/models/x",
    "http://h:port/v1/models/x",
    "http://[h/v1/models/x",
]
NO_URLS += ["http://u:p@h/v1/models/x", "http://h/v2/models/x", "http://h/v1/models/x?y", "file:///v1/models/x"]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_of_a_model(url):
    with pytest.raises(UserError, match="--url: must be http://HOST:PORT/v1/models/NAME, or https"):
        remote.connect(url)


def test_an_artefact_needs_its_model():
    with pytest.raises(UserError, match=r"--artefact: needs --model; .* Received: 'onnx'"):
        remote.connect("http://127.0.0.1:9/v1/models/x", artefact="onnx")


def test_a_model_may_be_called_anything(server, served, photos70):
    server.models["kä fer"] = server.models["single_label"]
    assert label_images.predict("", f"{photos70}/000.png", "", server.url("kä fer")) == 0


def test_a_model_that_the_server_lacks(server):
    with pytest.raises(UserError, match="--url: the server says 404: Could not find any versions of model nowhere"):
        remote.connect(server.url("nowhere"))


def test_the_key_goes_with_each_request_and_nowhere_else(server, photos70, monkeypatch):
    server.key = "secret"
    with pytest.raises(UserError, match=r"says 401: a key is needed; .* environment variable KERASFT_API_KEY"):
        remote.connect(server.url("single_label"))
    monkeypatch.setenv(http_json.KEY_VARIABLE, "secret\n")
    assert label_images.predict("", f"{photos70}/000.png", "", server.url("single_label")) == 0
    server.trouble = [(307, [("Location", "http://127.0.0.1:9/x")])]
    with pytest.raises(UserError, match="the server says 307"):
        label_images.predict("", f"{photos70}/000.png", "", server.url("single_label"))
    monkeypatch.setenv(http_json.KEY_VARIABLE, "a\nb")
    with pytest.raises(UserError, match=r"KERASFT_API_KEY: must be printable ASCII\. Received: 3 characters"):
        remote.connect(server.url("single_label"))


def test_another_version_in_the_middle_stops_it(server, photos70, tmp_path, monkeypatch, capsys):
    sent = http_json.send

    def swapped(place, headers, body=None):
        server.version = "2" if body else server.version
        return sent(place, headers, body)

    monkeypatch.setattr(http_json, "send", swapped)
    for out in (str(tmp_path / "o.csv"), ""):
        server.version = "1"
        with pytest.raises(UserError, match="--url: the server has another version of the model now"):
            label_images.predict("", f"{photos70}/00*.png", out, server.url("single_label"))
    assert not list((tmp_path / "o.csv.part").glob("*.stretch"))
    assert capsys.readouterr().out == ""


def test_another_model_of_the_same_number_stops_it(photos70, tmp_path, monkeypatch):
    """An unnumbered folder is version 1, whichever run has written it."""
    about = {"name": "x", "version": 1, "run": "first", "task": "single_label", "classes": ["a", "b"]}

    def send(url, _, body=None):
        if body:
            about["run"] = "second"
        return _answer("single_label") if body else about

    monkeypatch.setattr(http_json, "send", send)
    for out in (str(tmp_path / "o.csv"), ""):
        about["run"] = "first"
        with pytest.raises(UserError, match="--url: the server has another version of the model now"):
            label_images.predict("", str(photos70 / "000.png"), out, "http://localhost/v1/models/x")
    assert not list((tmp_path / "o.csv.part").glob("*.stretch"))


def test_an_image_of_a_size_that_a_local_model_refuses_is_not_sent(server, photos70, tmp_path, capsys):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(photos70 / "000.png", folder)
    Image.new("RGB", (5, 3)).save(folder / "small.png")
    label_images.predict("", str(folder), "", server.url("single_label"))
    assert "small.png: ERROR has 5x3 pixels; at least 64 pixels are needed" in capsys.readouterr().out
    assert server.asked == [1]


def test_requests_of_too_many_bytes_are_parted(server, photos70, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "MAX_REQUEST_BYTES", 10 * (photos70 / "000.png").stat().st_size)
    assert label_images.predict("", f"{photos70}/0*.png", str(tmp_path / "o.csv"), server.url("single_label")) == 0
    assert max(server.asked) <= 10
    assert sum(server.asked) == 70
