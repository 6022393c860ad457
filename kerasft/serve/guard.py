"""What every request passes before anything looks at it: the key, the size of its body, the clock.

KServe's server has none of these. This is an ASGI layer around its application, the outermost one.
"""

import asyncio
import hmac
import json
import time

from kerasft.serve import gauges
from kerasft.serve.limits import Limits, Refusal, too_large

OPEN = ("/", "/v2/health/live", "/v2/health/ready")  # need no key
UNKNOWN = Refusal(
    401,
    "A key is needed: header 'Authorization: Bearer KEY' or 'x-api-key: KEY'.",
    {"WWW-Authenticate": "Bearer"},
)


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
            await _passed(app, scope, receive, noted, limits, keys)
        except Refusal as refusal:
            await _refuse(refusal, noted)
        except TimeoutError:
            if not sent:
                await _refuse(Refusal(503, f"No answer within {limits.seconds:g} s (--timeout_seconds)."), noted)
        finally:
            gauges.REQUESTS.labels(sent[0] if sent else 499).inc()  # 499: it went away before its answer
            gauges.LATENCY.observe(time.monotonic() - began)

    return call


async def _passed(app, scope, receive, send, limits: Limits, keys: tuple[str, ...]) -> None:
    headers = dict(scope["headers"])
    if keys and scope["path"] not in OPEN and not _known(headers, keys):
        raise UNKNOWN
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limits.body_bytes:
        raise too_large(limits)
    async with asyncio.timeout(limits.seconds):
        try:
            body = await _body(receive, limits)
        except TimeoutError:
            raise Refusal(
                408,
                f"The body did not arrive within {limits.seconds:g} s (--timeout_seconds).",
                {"Connection": "close"},
            ) from None
        if body is None:
            return
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def handed():
            return pieces.pop() if pieces else await receive()

        await app(scope, handed, send)


async def _body(receive, limits: Limits) -> bytes | None:
    """The whole body; None where its sender has gone."""
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limits.body_bytes:
            refusal = too_large(limits)
            raise Refusal(refusal.status, refusal.text, {"Connection": "close"})
        if not message.get("more_body"):
            return b"".join(pieces)


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
