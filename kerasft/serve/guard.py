"""What every request passes before anything looks at it: the key, the size of its body, the clock.

KServe's server has none of these. This is an ASGI layer around its application, the outermost one.
"""

import asyncio
import hmac
import json
import time

from kerasft.serve import metrics
from kerasft.serve.limits import Limits, Refusal, too_large

KEYLESS_PATHS = ("/", "/v2/health/live", "/v2/health/ready")  # need no key
MAX_BODIES_IN_MEMORY = 8  # of the greatest size may be in memory at a time
KEYLESS = "A key is needed: header 'Authorization: Bearer KEY' or 'x-api-key: KEY'."


def guarded(app, *, limits: Limits, keys: tuple[str, ...]):
    """An ASGI application around another: 401, 413, 408 and 503 where it is due, counted and timed.

    The body is read here, whole, and handed on in one piece: so neither a body without a length nor one that dribbles gets
    any further.

    Args:
        keys: one of which a request must show; empty for none.
    """

    async def call(scope, receive, send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, sent = time.monotonic(), []

        async def noted(message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
            await send(message)

        try:
            await _passed(app, scope, receive, noted, limits, keys, held)
        except Refusal as refusal:
            if not sent:
                await _refuse(refusal, noted)
        finally:
            metrics.REQUESTS.labels(sent[0] if sent else 499).inc()  # 499: it went away before its answer
            metrics.LATENCY.observe(time.monotonic() - began)

    held = Held(MAX_BODIES_IN_MEMORY * limits.body_bytes)
    return call


class Held:
    """Bytes of bodies in memory, of all requests together, and how many there may be."""

    def __init__(self, most: int):
        self.bytes, self.most = 0, most


async def _passed(app, scope, receive, send, limits: Limits, keys: tuple[str, ...], held: Held) -> None:
    headers = dict(scope["headers"])
    if keys and scope["path"] not in KEYLESS_PATHS and not _known(headers, keys):
        # A new one each time: a raised exception holds its traceback, and one that all share would gather everybody's.
        raise Refusal(401, KEYLESS, {"WWW-Authenticate": "Bearer"})
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limits.body_bytes:
        raise too_large(limits)
    until = asyncio.get_running_loop().time() + limits.seconds
    pieces = []
    try:
        try:
            async with asyncio.timeout_at(until):
                whole = await _arrived(receive, limits, pieces, held)
        except TimeoutError:
            text = f"The body did not arrive within {limits.seconds:g} s (--timeout_seconds)."
            raise Refusal(408, text, {"Connection": "close"}) from None
        if not whole:
            return
        messages = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

        async def handed():
            return messages.pop() if messages else await receive()

        try:
            async with asyncio.timeout_at(until):
                await app(scope, handed, send)
        except TimeoutError:
            raise Refusal(503, f"No answer within {limits.seconds:g} s (--timeout_seconds).") from None
    finally:
        held.bytes -= sum(map(len, pieces))


async def _arrived(receive, limits: Limits, pieces: list[bytes], held: Held) -> bool:
    """Collects the body; False where its sender has gone."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        pieces.append(message.get("body", b""))
        size, held.bytes = size + len(pieces[-1]), held.bytes + len(pieces[-1])
        if size > limits.body_bytes:
            raise too_large(limits)
        if held.bytes > held.most:
            text = f"Requests of {held.most:,} bytes together are being answered; try again."
            raise Refusal(503, text, {"Retry-After": "1"})
        more = message.get("more_body", False)
    return True


def _known(headers: dict[bytes, bytes], keys: tuple[str, ...]) -> bool:
    """Whether a key is shown; every comparison takes the time of the whole key."""
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    shown = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
    return sum(hmac.compare_digest(shown, key.encode()) for key in keys) > 0


async def _refuse(refusal: Refusal, send) -> None:
    body = json.dumps({"error": refusal.text}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
