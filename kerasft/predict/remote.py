"""A model on a server, by TensorFlow Serving's REST predict API (tensorflow.org/tfx/serving/api_rest).

With `urllib` of the standard library: a request holds up to 32 pictures, so that what a client with a pool of
connections would save is lost in what they take to be sent and answered; and no package is needed.
"""

import base64
import email.utils
import http.client
import json
import os
import random
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from kerasft.console import console
from kerasft.predict.predictions import Model, Prediction, last_line, refused, to_predictions
from kerasft.settings.errors import UserError

KEY = "KERASFT_API_KEY"
MAX_CONCURRENT_REQUESTS = 4  # requests
MAX_REQUEST_BYTES = 8_000_000  # bytes of pictures in a request of more than one
ANSWER_TIMEOUT_SECONDS = 120  # seconds for the answer to pictures
_SHORT_TIMEOUT_SECONDS = 10  # seconds for any other
RETRY_SECONDS = 60  # seconds in which a request is tried again
_RETRIED_STATUSES = {408, 429, 502, 503, 504}  # busy, or starting: said by a server or by what stands before it
_TYPES = {"classes": str, "scores": np.float32, "probabilities": np.float32, "predicted": bool, "values": np.float32}


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would take the key to another place, and turns a POST into a GET."""

    def redirect_request(self, *_) -> None:
        return None


_opener = urllib.request.build_opener(_Stay)


def ask(url: str, model: str = "") -> Model:
    """A model that a server has.

    Its names of classes or targets are those of `model`, or what kerasft's own server says at `/read_metadata`; TensorFlow
    Serving does not tell them, but for the best five in each answer.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, or one version of it with `/versions/V`. A key in the environment
            variable KERASFT_API_KEY goes with each request.
        model: as `--model`, or empty.

    Raises:
        UserError: no such URL, no server that answers in `RETRY_SECONDS` seconds, no such model, or the key is not accepted.
    """
    url = url.removesuffix("/").removesuffix(":predict")
    if not _usable(url):
        raise UserError(f"--url: must be http://HOST:PORT/v1/models/NAME, or https. Received: {url!r}")
    url = quote(url, safe="%/:[]")  # a model may be called anything
    headers = {"Content-Type": "application/json", **_key()}
    metadata = _read_metadata(url, model, headers)
    names = metadata.get("classes") or []

    def answer(contents: list[bytes]) -> list[Prediction]:
        size = sum(map(len, contents))
        if len(contents) > 1 and size > MAX_REQUEST_BYTES:
            half = len(contents) // 2
            return answer(contents[:half]) + answer(contents[half:])
        encoded = b",".join(b'{"b64":"' + base64.b64encode(content) + b'"}' for content in contents)
        try:
            found = _patiently(url, lambda: _sent(f"{url}:predict", headers, b'{"instances":[' + encoded + b"]}"))
        except urllib.error.HTTPError as error:
            if error.code in (400, 413):
                reason = _reason(error).removeprefix("instances[0]: ")  # kerasft's server counts within a request
                raise refused(reason) from None
            raise _mistake(url, error) from None
        return to_predictions(_arrays(url, found, len(contents), names), names)

    def digest() -> str:
        return f"{url} {_version(url, headers)} {names}"

    return Model(answer, digest, metadata.get("task") or "", names, MAX_CONCURRENT_REQUESTS)


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port or an address that is none
        return False
    return bool(known) and "/v1/models/" in parts.path and not (parts.username or parts.query or parts.fragment)


def _key() -> dict[str, str]:
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"{KEY}: must be printable ASCII. Received: {len(key)} letters")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _read_metadata(url: str, model: str, headers: dict[str, str]) -> dict:
    """Task and names: what the SavedModel at hand says, else what kerasft's server says of a model of that name."""
    _version(url, headers)  # waits for the server, and says what is wrong with URL or key
    if model:
        from kerasft.export.saved_model import newest, read_metadata

        return read_metadata(newest(model))
    top, _, rest = url.partition("/v1/models/")
    try:
        metadata = _sent(f"{top}/about", headers)
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    same = isinstance(metadata, dict) and metadata.get("name") == unquote(rest.partition("/")[0])
    return metadata if same else {}


def _version(url: str, headers: dict[str, str]) -> str:
    """The versions that the server has ready; empty where it does not say."""
    try:
        metadata = _patiently(url, lambda: _sent(url, headers))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise _mistake(url, error) from None
        return ""
    states = metadata.get("model_version_status", []) if isinstance(metadata, dict) else []
    return " ".join(sorted(str(row.get("version")) for row in states if row.get("state") == "AVAILABLE"))


def _sent(url: str, headers: dict[str, str], body: bytes | None = None) -> dict:
    request = urllib.request.Request(url, body, headers)
    with _opener.open(request, timeout=ANSWER_TIMEOUT_SECONDS if body else _SHORT_TIMEOUT_SECONDS) as response:
        return json.load(response)


def _patiently(url: str, call: Callable[[], dict]) -> dict:
    """Calls again, after longer and longer pauses or those that the server asks for, while it is away or busy.

    Raises:
        UserError: `RETRY_SECONDS` seconds are over, or waiting is of no use.
        HTTPError: the server answers with any other status that is no success.
    """
    until, pause, metadata = time.monotonic() + RETRY_SECONDS, 0.5, False
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            if error.code not in _RETRIED_STATUSES:
                raise
            reason, asked = f"{error.code} {error.reason}", _retry_after(error)
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, (socket.gaierror, ssl.SSLError)):
                raise UserError(f"--url: {cause.strerror or cause}. Received: {url!r}") from None
            reason, asked = str(cause) or type(cause).__name__, 0.0
        except ValueError:
            raise UserError(
                f"--url: what answers is no model server (its answer is no JSON). Received: {url!r}"
            ) from None
        wait = max(asked, pause * random.uniform(0.5, 1))
        if time.monotonic() + wait > until:
            raise UserError(
                f"--url: no answer within {RETRY_SECONDS:g} seconds ({reason}); the same command goes on when there is. "
                f"Received: {url!r}"
            )
        if pause >= 4 and not metadata:
            console.say(f"waiting for {url}: {reason}")
            metadata = True
        time.sleep(wait)
        pause = min(2 * pause, 8)


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that the header Retry-After asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    text = error.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(error: urllib.error.HTTPError) -> str:
    """The server's own words, `{"error": "..."}`, or the status."""
    try:
        return last_line(str(json.load(error)["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _mistake(url: str, error: urllib.error.HTTPError) -> UserError:
    hint = f"; the key is taken from the environment variable {KEY}" if error.code in (401, 403) else ""
    return UserError(f"--url: the server says {error.code}: {_reason(error)}{hint}. Received: {url!r}")


def _arrays(url: str, found: dict, count: int, names: list[str]) -> dict[str, np.ndarray]:
    """The rows of an answer as the arrays that they were; a single output has no name (TensorFlow Serving's rule)."""
    try:
        rows = found["predictions"]
        if rows and not isinstance(rows[0], dict):
            rows = [{"values": row} for row in rows]
        known = [name for name in _TYPES if name in rows[0]]
        arrays = {name: np.array([row[name] for row in rows], _TYPES[name]) for name in known}
        width = arrays["values" if "values" in arrays else "probabilities"].shape[1]
        right = len(rows) == count and ("values" in arrays or {"classes", "scores"} <= arrays.keys())
    except (KeyError, IndexError, TypeError, ValueError):
        right, width = False, 0
    if not right:
        raise UserError(f"--url: does not answer as a model does that kerasft has exported. Received: {url!r}")
    if names and len(names) != width:
        raise UserError(f"--model: has {len(names)} classes, the server's has {width}. Received: {url!r}")
    return arrays
