"""A model on a server, by TensorFlow Serving's REST predict API (tensorflow.org/tfx/serving/api_rest).

It uses `urllib` of the standard library. A request holds up to 32 images, so a connection pool would save little time.
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
from kerasft.export import model_folders
from kerasft.predict.predictions import Model, Prediction, last_line, refused_batch, to_predictions
from kerasft.settings.errors import UserError

# The environment variable that holds the API key.
KEY_VARIABLE = "KERASFT_API_KEY"
# So many requests are sent at once.
MAX_CONCURRENT_REQUESTS = 4
# A request of more than one image has at most so many bytes of images.
MAX_REQUEST_BYTES = 8_000_000
# The server has so many seconds to answer a request with images.
ANSWER_TIMEOUT_SECONDS = 120
# The server has so many seconds to answer any other request.
_SHORT_TIMEOUT_SECONDS = 10
# A failed request is repeated for so many seconds.
RETRY_SECONDS = 60
# With these statuses a server or a proxy says that the model is busy or starting.
_RETRIED_STATUSES = {408, 429, 502, 503, 504}
_TYPES = {"classes": str, "scores": np.float32, "probabilities": np.float32, "predicted": bool, "values": np.float32}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would send the key to another server and turn a POST into a GET."""

    def redirect_request(self, *_) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def connect(url: str, model: str = "", artefact: str = "") -> Model:
    """Returns a model of a server.

    The names of classes or targets come from `model`, or from `/about` of kerasft's own server. TensorFlow Serving gives
    only the names of the top five classes of each image.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, or one version of it with `/versions/V`. A key in the environment
            variable KERASFT_API_KEY goes with each request.
        model: as `--model`, or empty.
        artefact: as `--artefact`.

    Raises:
        UserError: the URL is invalid, the server does not answer within `RETRY_SECONDS`, it has no such model, or refuses the key.
    """
    url = url.removesuffix("/").removesuffix(":predict")
    if not _is_model_url(url):
        raise UserError(f"--url: must be http://HOST:PORT/v1/models/NAME, or https. Received: {url!r}")
    # The name of a model may have any character.
    url = quote(url, safe="%/:[]")
    headers = {"Content-Type": "application/json", **_key_header()}
    metadata = _read_metadata(url, model, artefact, headers)
    names = metadata.get("classes") or []

    def predict(contents: list[bytes]) -> list[Prediction]:
        size = sum(map(len, contents))
        if len(contents) > 1 and size > MAX_REQUEST_BYTES:
            half = len(contents) // 2
            return predict(contents[:half]) + predict(contents[half:])
        encoded = b",".join(b'{"b64":"' + base64.b64encode(content) + b'"}' for content in contents)
        try:
            response = _with_retries(
                url, lambda: _request(f"{url}:predict", headers, b'{"instances":[' + encoded + b"]}")
            )
        except urllib.error.HTTPError as error:
            if error.code in (400, 413):
                # kerasft's server names the place in the request.
                raise refused_batch(_reason(error).removeprefix("instances[0]: ")) from None
            raise _server_error(url, error) from None
        return to_predictions(_parse_outputs(url, response, len(contents), names), names)

    def digest() -> str:
        return f"{url} {_version(url, headers)} {names}"

    return Model(predict, digest, metadata.get("task") or "", names, MAX_CONCURRENT_REQUESTS)


def _is_model_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    # The port or the address is invalid.
    except ValueError:
        return False
    return bool(known) and "/v1/models/" in parts.path and not (parts.username or parts.query or parts.fragment)


def _key_header() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"{KEY_VARIABLE}: must be printable ASCII. Received: {len(key)} characters")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _read_metadata(url: str, model: str, artefact: str, headers: dict[str, str]) -> dict:
    """Returns task and names, from the local model or from kerasft's own server."""
    # Waits for the server, and reports a wrong URL or key.
    _version(url, headers)
    if model:
        return model_folders.read_metadata(model_folders.newest(model, artefact))
    top, _, rest = url.partition("/v1/models/")
    try:
        metadata = _request(f"{top}/about", headers)
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    same = isinstance(metadata, dict) and metadata.get("name") == unquote(rest.partition("/")[0])
    return metadata if same else {}


def _version(url: str, headers: dict[str, str]) -> str:
    """Returns the versions that the server has loaded. Empty if it does not give them."""
    try:
        metadata = _with_retries(url, lambda: _request(url, headers))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise _server_error(url, error) from None
        return ""
    states = metadata.get("model_version_status", []) if isinstance(metadata, dict) else []
    return " ".join(sorted(str(row.get("version")) for row in states if row.get("state") == "AVAILABLE"))


def _request(url: str, headers: dict[str, str], body: bytes | None = None) -> dict:
    request = urllib.request.Request(url, body, headers)
    with _opener.open(request, timeout=ANSWER_TIMEOUT_SECONDS if body else _SHORT_TIMEOUT_SECONDS) as response:
        return json.load(response)


def _with_retries(url: str, call: Callable[[], dict]) -> dict:
    """Repeats a request while the server is unreachable or busy, with exponential backoff or after `Retry-After`.

    Raises:
        UserError: `RETRY_SECONDS` are over, or waiting cannot help.
        HTTPError: the server answers with another error status.
    """
    deadline, pause, reported = time.monotonic() + RETRY_SECONDS, 0.5, False
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            if error.code not in _RETRIED_STATUSES:
                raise
            reason, retry_after = f"{error.code} {error.reason}", _retry_after(error)
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, (socket.gaierror, ssl.SSLError)):
                raise UserError(f"--url: {cause.strerror or cause}. Received: {url!r}") from None
            reason, retry_after = str(cause) or type(cause).__name__, 0.0
        except ValueError:
            raise UserError(
                f"--url: the server is no model server (its answer is no JSON). Received: {url!r}"
            ) from None
        wait = max(retry_after, pause * random.uniform(0.5, 1))
        if time.monotonic() + wait > deadline:
            raise UserError(
                f"--url: no answer within {RETRY_SECONDS:g} seconds ({reason}); the same command resumes once the server answers. "
                f"Received: {url!r}"
            )
        if pause >= 4 and not reported:
            console.say(f"waiting for {url}: {reason}")
            reported = True
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
    """Returns the server's message, `{"error": "..."}`, or the status."""
    try:
        return last_line(str(json.load(error)["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _server_error(url: str, error: urllib.error.HTTPError) -> UserError:
    hint = f"; the key is taken from the environment variable {KEY_VARIABLE}" if error.code in (401, 403) else ""
    return UserError(f"--url: the server says {error.code}: {_reason(error)}{hint}. Received: {url!r}")


def _parse_outputs(url: str, response: dict, count: int, names: list[str]) -> dict[str, np.ndarray]:
    """Converts the rows of a response to arrays. A single output has no name (TensorFlow Serving's rule)."""
    try:
        rows = response["predictions"]
        if rows and not isinstance(rows[0], dict):
            rows = [{"values": row} for row in rows]
        known = [name for name in _TYPES if name in rows[0]]
        arrays = {name: np.array([row[name] for row in rows], _TYPES[name]) for name in known}
        width = arrays["values" if "values" in arrays else "probabilities"].shape[1]
        right = len(rows) == count and ("values" in arrays or {"classes", "scores"} <= arrays.keys())
    except (KeyError, IndexError, TypeError, ValueError):
        right, width = False, 0
    if not right:
        raise UserError(f"--url: the outputs are not those of a model that kerasft has exported. Received: {url!r}")
    if names and len(names) != width:
        raise UserError(f"--model: has {len(names)} classes, the server's has {width}. Received: {url!r}")
    return arrays
