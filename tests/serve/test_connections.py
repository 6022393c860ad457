"""Connections that say nothing, or not all, are closed; the others are left alone."""

import asyncio
import time

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")
from uvicorn.server import ServerState  # noqa: E402

from kerasft.serve.connections import protocol_with_timeout  # noqa: E402

SECONDS = 0.4
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def app(scope, receive, send) -> None:
    """Refuses without reading where the path says so; else answers when the body is there."""
    while scope["path"] != "/refuse" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def talk(*pieces: bytes, pause: float = 0.15) -> tuple[bytes, float]:
    """All that a server answers to pieces with pauses between them, and seconds until it hangs up (or three)."""

    async def session() -> tuple[bytes, float]:
        config = uvicorn.Config(app, http=protocol_with_timeout(SECONDS), lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        began, reading = time.monotonic(), asyncio.create_task(reader.read())
        for piece in pieces:
            if reading.done():
                break
            writer.write(piece)
            await asyncio.sleep(pause)
        await asyncio.wait([reading], timeout=3 - (time.monotonic() - began))
        took = time.monotonic() - began
        reading.cancel()
        writer.close()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.05)
        return (reading.result() if reading.done() and not reading.cancelled() else b""), took

    return asyncio.run(session())


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((), id="nothing"),
        pytest.param((HEAD, *[b"X: y\r\n"] * 12), id="head"),
        pytest.param((HEAD + b"Content-Length: 100\r\n\r\n", *[b"x"] * 12), id="body"),
    ],
)
def test_what_does_not_arrive_is_cut_off(pieces):
    answer, took = talk(*pieces)
    assert answer == b""
    assert SECONDS - 0.05 < took < SECONDS + 0.6


def test_a_refused_body_is_not_waited_for():
    answer, took = talk(HEAD.replace(b"/", b"/refuse", 1) + b"Content-Length: 100\r\n\r\n", *[b"x"] * 12)
    assert answer.endswith(b"ok")
    assert took < SECONDS + 0.6


def test_a_connection_in_use_stays_open():
    """Each request is in time, all together are not."""
    whole = HEAD + b"Content-Length: 1\r\n\r\n"
    answer, took = talk(*[whole, b"x"] * 5, HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
    assert answer.count(b"ok") == 6
    assert took > 2 * SECONDS
