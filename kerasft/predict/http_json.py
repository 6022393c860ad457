"""JSON over HTTP: requests that are repeated while a server is away or busy, and errors in words.

It uses `urllib` of the standard library. A request holds up to 32 images, so a connection pool would save little time.
"""

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

from kerasft.console import console
from kerasft.predict.predictions import last_line
from kerasft.settings.errors import UserError

# The environment variable that holds the API key.
KEY_VARIABLE = "KERASFT_API_KEY"
# The server has so many seconds to answer a request with images.
ANSWER_TIMEOUT_SECONDS = 120
# The server has so many seconds to answer any other request.
_SHORT_TIMEOUT_SECONDS = 10
# A request is repeated for so many seconds after it has failed.
RETRY_SECONDS = 60
# With these statuses a server or a proxy says that the model is busy or starting.
_RETRIED_STATUSES = {408, 429, 502, 503, 504}


class NoJson(UserError):
    """The answer of a server is no JSON."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would send the key to another server and turn a POST into a GET."""

    def redirect_request(self, *_) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def key_header() -> dict[str, str]:
    """Returns the header with the API key; {} where there is none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"{KEY_VARIABLE}: must be printable ASCII. Received: {len(key)} characters")
    return {"Authorization": f"Bearer {key}"} if key else {}


def send(url: str, headers: dict[str, str], body: bytes | None = None) -> dict:
    """Returns the JSON that answers a GET, or a POST where there is a body."""
    request = urllib.request.Request(url, body, headers)
    with _opener.open(request, timeout=ANSWER_TIMEOUT_SECONDS if body else _SHORT_TIMEOUT_SECONDS) as response:
        return json.load(response)


def with_retries(url: str, call: Callable[[], dict]) -> dict:
    """Repeats a request while the server is unreachable or busy, with exponential backoff or after `Retry-After`.

    The last attempt is `RETRY_SECONDS` after the first failure: a timeout may take longer than that by itself.

    Raises:
        UserError: the last attempt has failed, or waiting cannot help; NoJson for an answer of another kind.
        HTTPError: the server answers with another error status.
    """
    began, deadline, pause, reported = time.monotonic(), None, 0.5, False
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            if error.code not in _RETRIED_STATUSES:
                raise
            reason, retry_after = f"{error.code} {error.reason}", _retry_after(error)
        except (OSError, http.client.HTTPException) as error:
            # The reason of an SSLError is the name of it.
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            unknown_host = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
            if unknown_host or isinstance(cause, ssl.SSLCertVerificationError):
                raise UserError(f"--url: {cause.strerror or cause}. Received: {url!r}") from None
            reason, retry_after = str(cause) or type(cause).__name__, 0.0
        except ValueError:
            raise NoJson(f"--url: the server is no model server (its answer is no JSON). Received: {url!r}") from None
        now = time.monotonic()
        deadline = now + RETRY_SECONDS if deadline is None else deadline
        if now >= deadline:
            raise UserError(
                f"--url: no answer within {now - began:.0f} seconds ({reason}); the same command resumes once the server "
                f"answers. Received: {url!r}"
            )
        wait = min(max(retry_after, pause * random.uniform(0.5, 1)), deadline - now)
        if wait >= 4 and not reported:
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


def error_text(error: urllib.error.HTTPError) -> str:
    """Returns the server's message, `{"error": "..."}`, or the status."""
    try:
        return last_line(str(json.load(error)["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def server_error(url: str, error: urllib.error.HTTPError) -> UserError:
    """The error for a status that waiting does not help against."""
    hint = f"; the key is taken from the environment variable {KEY_VARIABLE}" if error.code in (401, 403) else ""
    return UserError(f"--url: the server says {error.code}: {error_text(error)}{hint}. Received: {url!r}")
