"""ASGI middleware that checks every request first: its API key, the size of its body, and its time limit.

KServe's server has none of these checks. This middleware is the outermost layer around its application.
"""

import asyncio
import hmac
import json
import time

from kerasft.serve import metrics
from kerasft.serve.limits import Limits, RequestError, body_too_large

# Requests to these paths need no key.
KEYLESS_PATHS = ("/", "/v2/health/live", "/v2/health/ready")
# All bodies in memory together may be as large as so many bodies of the greatest size.
MAX_BODIES_IN_MEMORY = 8
# How the content types of CloudEvents begin.
CLOUD_EVENTS = b"application/cloudevents"
MISSING_KEY_MESSAGE = "A key is needed: header 'Authorization: Bearer KEY' or 'x-api-key: KEY'."


def guard_app(app, *, limits: Limits, keys: tuple[str, ...]):
    """Wraps an ASGI application. Refused requests get 401, 415, 413, 408 or 503; all requests are counted and timed.

    The whole body is read here and passed on in one piece. So a body without a length and a slow body go no further.

    Args:
        keys: a request must have one of them; empty if no key is needed.
    """

    async def guarded_app(scope, receive, send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, sent = time.monotonic(), []

        async def send_and_record(message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
            await send(message)

        try:
            await _handle(app, scope, receive, send_and_record, limits, keys, memory)
        except RequestError as error:
            if not sent:
                await _send_error(error, send_and_record)
        finally:
            # 499: the client closed the connection before its answer.
            metrics.REQUESTS.labels(sent[0] if sent else 499).inc()
            metrics.LATENCY.observe(time.monotonic() - began)

    memory = BodyMemory(MAX_BODIES_IN_MEMORY * limits.max_body_bytes)
    return guarded_app


class BodyMemory:
    """Counts the bytes of all bodies in memory, and holds their limit."""

    def __init__(self, max_bytes: int):
        self.bytes, self.max_bytes = 0, max_bytes


async def _handle(app, scope, receive, send, limits: Limits, keys: tuple[str, ...], memory: BodyMemory) -> None:
    headers = dict(scope["headers"])
    if keys and scope["path"] not in KEYLESS_PATHS and not _has_key(headers, keys):
        # A new error each time: a shared one would collect the tracebacks of all requests.
        raise RequestError(401, MISSING_KEY_MESSAGE, {"WWW-Authenticate": "Bearer"})
    # KServe answers CloudEvents with CloudEvents, which it cannot make of our answers.
    if b"ce-specversion" in headers or headers.get(b"content-type", b"").lower().startswith(CLOUD_EVENTS):
        raise RequestError(415, "CloudEvents are not understood: send the JSON alone, as application/json.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limits.max_body_bytes:
        raise body_too_large(limits)
    deadline = asyncio.get_running_loop().time() + limits.timeout_seconds
    pieces = []
    try:
        try:
            async with asyncio.timeout_at(deadline):
                complete = await _read_body(receive, limits, pieces, memory)
        except TimeoutError:
            text = f"The body did not arrive within {limits.timeout_seconds:g} s (--timeout_seconds)."
            raise RequestError(408, text, {"Connection": "close"}) from None
        if not complete:
            return
        messages = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

        async def receive_body():
            return messages.pop() if messages else await receive()

        try:
            async with asyncio.timeout_at(deadline):
                await app(scope, receive_body, send)
        except TimeoutError:
            raise RequestError(503, f"No answer within {limits.timeout_seconds:g} s (--timeout_seconds).") from None
    finally:
        memory.bytes -= sum(map(len, pieces))


async def _read_body(receive, limits: Limits, pieces: list[bytes], memory: BodyMemory) -> bool:
    """Appends the parts of the body to `pieces`. Returns False if the client has closed the connection."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        pieces.append(message.get("body", b""))
        size, memory.bytes = size + len(pieces[-1]), memory.bytes + len(pieces[-1])
        if size > limits.max_body_bytes:
            raise body_too_large(limits)
        if memory.bytes > memory.max_bytes:
            text = f"The server holds requests of {memory.max_bytes:,} bytes, its limit. Try again."
            raise RequestError(503, text, {"Retry-After": "1"})
        more = message.get("more_body", False)
    return True


def _has_key(headers: dict[bytes, bytes], keys: tuple[str, ...]) -> bool:
    """Whether a request has one of the keys. Each comparison takes constant time."""
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    key = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return sum(hmac.compare_digest(key, valid.encode()) for valid in keys) > 0


async def _send_error(error: RequestError, send) -> None:
    body = json.dumps({"error": error.text}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
