"""The page in a real browser, against a stub of the server that answers what each test needs, and once against the server."""

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import browser
import numpy as np
import pytest
from conftest import ROOT, make_image
from PIL import Image

pytest.importorskip("kserve")
if browser.BINARY is None:
    pytest.skip("needs Chromium", allow_module_level=True)

from served import b64, exported, photo
from test_serve import KEY, Server

PAGE = ROOT / "kerasft" / "serve" / "page.html"
LIMITS = {"body_bytes": 40_000, "pixels": 250_000, "images": 64}
ABOUT = {"name": "shapes & <b>", "version": 3, "task": "single_label", "classes": ["disc", "square"], "image_size": 32}
SINGLE = {"classes": ["square", "disc"], "scores": [0.9126, 0.0874], "probabilities": [0.0874, 0.9126]}


class Handler(BaseHTTPRequestHandler):
    """Speaks the server's protocol, one request a connection; `state` says what."""

    state: SimpleNamespace

    def log_message(self, *_) -> None:
        pass

    def _send(self, status: int, body, kind: str = "application/json", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path == "/":
            headers = {"Content-Security-Policy": self.state.policy}
            self._send(200, PAGE.read_bytes(), "text/html; charset=utf-8", **headers)
        elif self._known():
            self._send(*((200, self.state.read_metadata) if self.path == "/about" else (404, {"error": "Not Found"})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (
            self.state.gone or not self._known()
        ):  # the browser keeps a connection in hand, whose thread outlives the server
            return
        self.state.parse_request.append((self.path, json.loads(body)))
        self.state.gate.wait(10)
        status, answer, headers = self.state.answers.pop(0) if self.state.answers else (200, self.state.answer, {})
        if status == 200:
            sent = [base64.b64decode(one["b64"]) for one in json.loads(body)["instances"]]
            answer = {"predictions": [self.state.look(one) if self.state.look else answer for one in sent]}
        self._send(status, answer, **headers)

    def _known(self) -> bool:
        if self.state.key and self.headers["X-Api-Key"] != self.state.key:
            self._send(401, {"error": "A key is needed."})
            return False
        return True


@pytest.fixture(scope="module")
def tab():
    with browser.chromium() as page:
        yield page


@pytest.fixture
def stub():
    """A fresh stub; `answers` are given first, then `answer` for ever. `gate` holds answers back while it is closed."""
    state = SimpleNamespace(
        read_metadata={**ABOUT, "limits": LIMITS},
        answer=SINGLE,
        answers=[],
        parse_request=[],
        key="",
        gone=False,
        look=None,
    )
    from kerasft.serve.routes import content_security_policy

    state.policy, state.gate = content_security_policy(PAGE.read_text()), threading.Event()
    state.gate.set()
    handler = type("Stub", (Handler,), {"state": state})

    def start(port: int = 0) -> None:
        state.gone = False
        state.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        state.server.daemon_threads = True
        state.url = f"http://127.0.0.1:{state.server.server_address[1]}/"
        threading.Thread(target=state.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close() -> None:
        state.gone = True
        state.gate.set()
        state.server.shutdown()
        state.server.server_close()

    state.start, state.close = start, close
    start()
    yield state
    close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Named files of every kind."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    for index in range(6):
        make_image("disc", rng).save(root / f"disc {index}.jpg")
    make_image("square", rng).save(root / "square.png")
    make_image("square", rng).save(root / "square.webp")
    (root / "lies.jpg").write_text("no image")
    (root / "empty.jpg").touch()
    (root / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (root / "heavy.bmp").write_bytes(b"BM" + bytes(60_000))
    Image.new("L", (600, 600)).save(root / "wide.png")
    (root / "cut.jpg").write_bytes((root / "disc 0.jpg").read_bytes()[:400])
    return root


def opened(tab, stub, width: int = 1280, **how) -> None:
    tab.open(stub.url, width, **how)
    tab.wait("document.getElementById('name').innerText !== 'kerasft'")


def answered(tab, count: int = 1) -> None:
    tab.wait(f"document.querySelectorAll('#cards .meta').length === {count}")


def failed(tab, count: int = 1) -> None:
    tab.wait(f"document.querySelectorAll('#cards .error').length === {count}")


def test_it_is_small_and_needs_nothing_from_elsewhere(tab, stub, files):
    text = PAGE.read_text()
    assert len(text.encode()) < 24 * 1024
    assert "http://" not in text and "https://" not in text and " src=" not in text
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    loaded = [e["params"]["request"]["url"] for e in tab.events if e.get("method") == "Network.requestWillBeSent"]
    assert len(loaded) > 2 and all(url.startswith((stub.url, "blob:", "data:")) for url in loaded)
    assert tab.complaints() == []  # the Content-Security-Policy among them


def test_names_the_model_even_one_with_markup(tab, stub):
    opened(tab, stub)
    assert tab.text("h1") == "shapes & <b>"
    assert tab.text("#about") == "Version 3: disc, square"
    assert "up to 29\u00a0kB" in tab.text("#kinds")


def test_a_chosen_image_is_sent_as_it_is_and_labelled(tab, stub, files):
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    path, body = stub.parse_request[0]
    assert path == "/v1/models/shapes%20%26%20%3Cb%3E:predict"
    assert base64.b64decode(body["instances"][0]["b64"]) == (files / "disc 0.jpg").read_bytes()
    assert tab.text("#cards h3") == "disc 0.jpg"
    assert tab.text("#cards .answer") == "square 91.3%"
    assert tab.text("#cards dl").split() == ["square", "91.3%", "disc", "8.7%"]
    assert tab.run("[...document.querySelectorAll('meter')].map(m => m.value)") == [0.9126, 0.0874]
    assert tab.text("#cards .meta").endswith(" ms, version 3")
    assert tab.run("document.querySelector('canvas').width") > 1  # the thumbnail was drawn


def _of_the_upper_left(content: bytes) -> dict:
    """The probability of a square is that share of the upper left sixteenth that is white, and of a disc the rest."""
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    white = float((pixels[: len(pixels) // 4, : len(pixels) // 4] > 200).mean())
    return {"classes": ["square", "disc"], "scores": [white, 1 - white], "probabilities": [1 - white, white]}


def _why(tab) -> str:
    tab.run("document.querySelector('#cards button').click()")
    tab.wait(
        "!document.querySelector('#cards .below button') && document.querySelectorAll('#cards .below p').length === 2"
    )
    return tab.run("document.querySelector('#cards .below p:last-child').innerText")


def test_why_colours_the_places_that_count(tab, stub, tmp_path):
    Image.new("RGB", (100, 80), "white").save(tmp_path / "white.png")
    stub.read_metadata["limits"] = {**LIMITS, "body_bytes": 4_000_000}
    stub.look = _of_the_upper_left
    opened(tab, stub)
    tab.choose(tmp_path / "white.png")
    answered(tab)
    assert tab.text("#cards .answer") == "square 100.0%"
    words = _why(tab)
    assert words.startswith("The more orange a place, the more of square is lost if it is hidden: up to ")
    assert [len(body["instances"]) for _, body in stub.parse_request] == [1, 10, 10, 10, 10, 10]
    pixel = "[...document.querySelector('canvas').getContext('2d').getImageData({0}, {0}, 1, 1).data]"
    assert tab.run(pixel.format(30)) != tab.run(pixel.format(250)) == [255, 255, 255, 255]


@pytest.mark.parametrize(
    ("framing", "corner", "middle"),
    [("crop", [0, 0, 255], [0, 0, 255]), ("squash", [255, 0, 0], [0, 0, 255]), ("pad", [114] * 3, [0, 0, 255])],
)
def test_an_image_is_drawn_by_the_framing_of_the_model(tab, stub, tmp_path, framing, corner, middle):
    """A wide blue image with red ends: they are cut off, pressed into the square, or above them is grey."""
    image = Image.new("RGB", (200, 50), "red")
    image.paste("blue", (50, 0, 150, 50))
    image.save(tmp_path / "wide.png")
    stub.read_metadata["framing"] = framing
    opened(tab, stub)
    tab.choose(tmp_path / "wide.png")
    answered(tab)
    pixel = "[...document.querySelector('canvas').getContext('2d').getImageData({0}, {1}, 1, 1).data]"
    assert tab.run(pixel.format(20, 10)) == [*corner, 255]
    assert tab.run(pixel.format(136, 136)) == [*middle, 255]
    edge = [255, 0, 0] if framing == "pad" else corner
    assert tab.run(pixel.format(20, 136)) == [*edge, 255]


def test_why_says_where_no_place_decides_and_what_the_server_refuses(tab, stub, files):
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert _why(tab) == "No one place decides on square: whichever is hidden, less than 2.0% is lost."
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    stub.answers = [(413, {"error": "Too large."}, {})]
    assert _why(tab) == "Too large."
    assert tab.run("document.querySelector('#cards .below p:last-child').className") == "error"


def test_several_at_once_keep_their_answers(tab, stub, files):
    opened(tab, stub)
    stub.answers = [(200, {"classes": [f"c{k}"], "scores": [1.0], "probabilities": [1.0]}, {}) for k in range(6)]
    tab.choose(*(files / f"disc {index}.jpg" for index in range(6)))
    answered(tab, 6)
    names = tab.run("[...document.querySelectorAll('#cards li')].map(li => li.querySelector('h3').innerText)")
    labels = tab.run("[...document.querySelectorAll('#cards li .answer bdi')].map(e => e.innerText)")
    assert names == [f"disc {index}.jpg" for index in range(6)]
    assert sorted(labels) == [f"c{k}" for k in range(6)]
    assert tab.text("#count") == "6 answered"
    sent = {base64.b64decode(body["instances"][0]["b64"]) for _, body in stub.parse_request}
    assert sent == {(files / name).read_bytes() for name in names}


def test_dropped_and_pasted_images(tab, stub, files):
    opened(tab, stub)
    tab.drop(600, 700, files / "square.png", files / "square.webp")  # anywhere on the page
    answered(tab, 2)
    content = base64.b64encode((files / "disc 1.jpg").read_bytes()).decode()
    tab.run(f"""(async () => {{
      const data = new DataTransfer(), blob = await (await fetch("data:image/jpeg;base64,{content}").catch(() => null))?.blob();
      const bytes = Uint8Array.from(atob("{content}"), c => c.charCodeAt());
      data.items.add(new File([blob ?? bytes], "pasted.jpg", {{type: "image/jpeg"}}));
      document.body.dispatchEvent(new ClipboardEvent("paste", {{clipboardData: data, bubbles: true}}));
    }})()""")
    answered(tab, 3)
    assert tab.text("#cards h3") == "pasted.jpg"  # the latest first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lies.jpg", "Not an image that the model takes."),
        ("empty.jpg", "An empty file."),
        ("phone.heic", "The model does not take HEIC photographs: save it as JPEG or PNG."),
        ("heavy.bmp", "Too large: 60 kB. This server takes up to 29 kB."),
        ("wide.png", "Too many pixels: 600 × 600. This server takes up to 250,000 in all."),
    ],
)
def test_a_wrong_file_is_refused_in_words_and_not_sent(tab, stub, files, name, words):
    opened(tab, stub)
    tab.choose(files / name)
    failed(tab)
    assert tab.text("#cards .error").replace("\u00a0", " ") == words
    assert stub.parse_request == []
    assert tab.run("document.querySelector('#cards button')") is None  # to try again would not help


def test_a_folder_is_refused_in_words(tab, stub, files):
    opened(tab, stub)
    tab.drop(600, 200, files)
    failed(tab)
    assert "a folder" in tab.text("#cards .error")


def test_what_the_server_refuses_is_said_and_the_others_are_answered(tab, stub, files):
    opened(tab, stub)
    stub.answers = [(400, {"error": "instances[0]: the image is incomplete (cut off)."}, {})]
    tab.choose(files / "cut.jpg")
    failed(tab)
    assert tab.text("#cards .error") == "The image is incomplete (cut off)."
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.text("#count") == "1 answered, 1 without an answer"


def test_an_answer_that_is_not_of_kerasft_is_said(tab, stub, files):
    opened(tab, stub)
    stub.answers = [(502, b"<html>Bad gateway", {})]
    tab.choose(files / "disc 0.jpg")
    failed(tab)
    assert tab.text("#cards .error") == "The server answered 502, without words."


def test_a_server_that_is_gone_is_said_and_can_be_tried_again(tab, stub, files):
    opened(tab, stub)
    port = stub.server.server_address[1]
    stub.close()
    tab.choose(files / "disc 0.jpg")
    failed(tab)
    assert tab.text("#cards .error") == "The server does not answer. Is it still running?"
    stub.start(port)
    tab.click("#cards button")
    answered(tab)


def test_a_server_that_was_gone_at_first_is_found_later(tab, stub, files):
    stub.answers = []
    stub.key = "later"
    tab.open(stub.url)
    tab.wait("document.querySelector('dialog').open")
    tab.press("Escape")
    tab.wait("!document.getElementById('notice').hidden")
    assert tab.text("#about") == "The model is not known yet."
    stub.key = ""
    tab.click("#notice button")
    tab.wait("document.getElementById('notice').hidden")
    assert tab.text("#about") == "Version 3: disc, square"


@pytest.mark.large
def test_a_busy_server_is_asked_again_when_it_says(tab, stub, files):
    opened(tab, stub)
    stub.answers = [(429, {"error": "busy"}, {"Retry-After": "1"}), (503, {"error": "busy"}, {})]
    tab.choose(files / "disc 0.jpg")
    tab.wait("document.querySelector('.wait')?.innerText.includes('busy. Trying again in 1 s (2 of 5)')")
    answered(tab)
    assert len(stub.parse_request) == 3
    assert int(tab.text("#cards .meta").split()[0]) < 900  # the last attempt's, not the wait for it


def test_escape_stops_what_waits_and_it_can_be_tried_again(tab, stub, files):
    opened(tab, stub)
    stub.gate.clear()
    tab.choose(*(files / f"disc {index}.jpg" for index in range(6)))
    tab.wait("document.getElementById('count').innerText === '6 waiting'")
    tab.press("Escape")
    failed(tab, 6)
    assert tab.text("#cards .error") == "Stopped."
    stub.gate.set()
    tab.click("#cards button")
    answered(tab)
    assert tab.text("#count") == "1 answered, 5 without an answer"
    tab.click("#clear")
    assert tab.run("document.querySelectorAll('#cards li').length") == 0


def test_a_key_is_asked_for_once_and_kept_in_memory_only(tab, stub, files):
    stub.key = "s3cret"
    tab.open(stub.url)
    tab.wait("document.querySelector('dialog').open")
    assert tab.run("document.activeElement.id") == "key"
    tab.type("wrong")
    tab.press("Enter")
    tab.wait("document.getElementById('why').innerText === 'The server does not take that key.'")
    tab.wait("document.querySelector('dialog').open && document.activeElement.id === 'key'")
    tab.type("s3cret")
    tab.press("Enter")
    tab.wait("document.getElementById('name').innerText !== 'kerasft'")
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.run("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert "s3cret" not in tab.run("document.documentElement.outerHTML + location.href")


def test_another_version_brings_its_classes(tab, stub, files):
    opened(tab, stub)
    stub.read_metadata = {**stub.read_metadata, "version": 4, "classes": ["circle", "box"]}
    stub.answers = [
        (200, {**SINGLE, "predicted": [False, True]}, {"X-Model-Version": "4"}),
    ]
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.text("#cards .answer") == "box"
    assert tab.text("#about") == "Version 4: circle, box"
    assert tab.text("#cards .meta").endswith("version 4")


def test_later_images_name_the_version_of_their_time(tab, stub, files):
    opened(tab, stub)
    stub.read_metadata = {**stub.read_metadata, "version": 5}
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.text("#cards .meta").endswith("version 5")


def test_several_labels_show_those_present_and_all_scores(tab, stub, files):
    classes = [f"label {k}" for k in range(12)]
    stub.read_metadata = {**stub.read_metadata, "task": "multi_label", "classes": classes}
    scores = [k / 12 for k in range(12)]
    stub.answer = {"classes": [], "scores": [], "probabilities": scores, "predicted": [k in (3, 11) for k in range(12)]}
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.run("[...document.querySelectorAll('.answer bdi')].map(e => e.innerText)") == ["label 11", "label 3"]
    assert len(tab.run("[...document.querySelectorAll('meter')].map(m => m.value)")) == 12
    assert tab.text("#cards summary") == "4 more"
    stub.answer = {**stub.answer, "predicted": [False] * 12}
    tab.choose(files / "disc 1.jpg")
    answered(tab, 2)
    assert tab.text("#cards .answer") == "None of the labels"


@pytest.mark.parametrize("answer", [[-12.345678, 4123456.5], {"values": [-12.345678, 4123456.5]}])
def test_regression_shows_values_by_name(tab, stub, files, answer):
    stub.read_metadata = {**stub.read_metadata, "task": "regression", "classes": ["angle", "height"]}
    stub.answer = answer
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.text("#cards dl").split() == ["angle", "-12.346", "height", "4.123e+6"]
    assert tab.run("document.querySelector('meter')") is None


def test_what_is_not_quite_all_or_nothing_does_not_read_as_that(tab, stub, files):
    stub.answer = {"classes": ["disc", "square"], "scores": [0.99999, 0.00001], "probabilities": [0.99999, 0.00001]}
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    assert tab.text("#cards dl").split("\n")[:2] == ["disc", "over 99.9%"] or "over 99.9%" in tab.text("#cards dl")
    assert "under 0.1%" in tab.text("#cards dl")


def test_by_keyboard_alone(tab, stub, files):
    opened(tab, stub)
    tab.call("Page.setInterceptFileChooserDialog", enabled=True)
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "input"
    outline = "getComputedStyle(document.querySelector('.drop')).outlineStyle"
    assert tab.run(outline) == "solid"
    tab.press("Space")
    end = time.monotonic() + 5
    while not any(e.get("method") == "Page.fileChooserOpened" for e in tab.events):
        assert time.monotonic() < end
        tab.run("0")
    tab.call("Page.setInterceptFileChooserDialog", enabled=False)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    tab.press("Tab")
    assert tab.run("document.activeElement.id") == "clear"
    tab.press("Enter")
    assert tab.run("[document.querySelectorAll('#cards li').length, document.activeElement.id]") == [0, "input"]


def test_for_screen_readers(tab, stub, files):
    opened(tab, stub)
    tab.choose(files / "disc 0.jpg")
    answered(tab)
    tab.wait("document.getElementById('said').innerText === 'disc 0.jpg: square 91.3%'")
    tree = tab.tree()
    assert {"banner", "main", "contentinfo"} <= {role for role, _ in tree}
    for one in [("region", "Results"), ("image", "disc 0.jpg"), ("heading", "disc 0.jpg"), ("meter", "square")]:
        assert one in tree, one
    assert any(role == "status" for role, _ in tree)
    assert tab.run("document.getElementById('notice').getAttribute('role')") == "alert"
    nameless = [role for role, name in tree if role in ("button", "textbox", "image", "meter", "heading") and not name]
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_sized_in_both_schemes(tab, stub, files, scheme):
    stub.read_metadata = {**stub.read_metadata, "name": "a" * 80, "classes": ["w" * 90, "square"]}
    stub.answer = {**SINGLE, "classes": ["w" * 90, "square"]}
    opened(tab, stub, 320, scheme=scheme, motion="reduce")
    tab.choose(files / "disc 0.jpg", files / "lies.jpg")
    answered(tab)
    failed(tab)
    assert tab.run("document.documentElement.scrollWidth") == 320
    assert (
        tab.run("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(252, 252, 250)",
            "dark": "rgb(20, 24, 29)",
        }[scheme]
    )


def test_with_the_server_itself(tab, tmp_path):
    """A key, an image, what `predict` says of the same bytes; then the server goes away."""
    server = Server(exported(tmp_path / "shapes" / "1"), tmp_path)
    try:
        server.open()
        tab.open(server.url + "/")
        tab.wait("document.querySelector('dialog').open")
        tab.type(KEY)
        tab.press("Enter")
        tab.wait("document.getElementById('name').innerText === 'shapes'")
        for seed in range(3):
            (tmp_path / f"{seed}.jpg").write_bytes(photo(seed))
        (tmp_path / "cut.jpg").write_bytes(photo()[:300])
        tab.choose(*(tmp_path / f"{name}.jpg" for name in (0, 1, 2, "cut")))
        answered(tab, 3)
        failed(tab)
        assert tab.text("#cards .error").startswith(("The image is incomplete", "Cannot be decoded"))
        metadata = server.predict({"instances": [b64(photo(seed)) for seed in range(3)]}).json()["predictions"]
        shown = tab.run("[...document.querySelectorAll('.answer bdi')].map(e => e.innerText)")
        assert shown == [one["classes"][0] for one in metadata]
        meters = tab.run("[...document.querySelectorAll('meter')].map(m => m.value)")
        assert np.allclose(meters, [score for one in metadata for score in one["scores"]], atol=1e-5)
        assert not [one for one in tab.complaints() if "Security" in one]
        server.client.close()
    finally:
        server.process.kill()
        server.process.wait()
    tab.choose(tmp_path / "0.jpg")
    failed(tab, 2)
    assert tab.text("#cards .error") == "The server does not answer. Is it still running?"
