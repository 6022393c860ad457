"""What a request passes first: key, size, clock; played against an application that answers what it was sent."""

import asyncio
import json
import traceback

import pytest

pytest.importorskip("prometheus_client")
from kerasft.serve import guard
from kerasft.serve.limits import Limits

LIMITS = Limits(
    max_body_bytes=100, max_pixels=1, max_images=1, max_batch_size=1, max_delay_seconds=0, timeout_seconds=0.2
)


async def echo(scope, receive, send):
    message = await receive()
    if message["body"] == b"slow":
        await asyncio.sleep(5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def parse_request(pieces: list[bytes], headers: dict | None = None, *, path="/v1", keys=(), pause=0.0, app=None):
    """Status, headers and body of the answer to a request that comes in pieces."""
    app = app or guard.guard_app(echo, limits=LIMITS, keys=keys)
    queue, sent = list(pieces), []

    async def receive():
        await asyncio.sleep(pause)
        if not queue:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": queue.pop(0), "more_body": bool(queue)}

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    asyncio.run(app({"type": "http", "path": path, "headers": pairs}, receive, send))
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent)


def refused(*args, **settings) -> tuple[int, str]:
    status, headers, body = parse_request(*args, **settings)
    assert headers[b"content-type"] == b"application/json"
    return status, json.loads(body)["error"]


def test_a_body_in_pieces_arrives_whole():
    assert parse_request([b"a" * 50, b"b" * 50])[::2] == (200, b"a" * 50 + b"b" * 50)


@pytest.mark.parametrize("length", ["101", "1e9", "-1", "1 "])
def test_a_length_above_the_limit_is_refused_before_the_body_is_read(length):
    assert refused([], {"content-length": length}) == (413, "The body may have at most 100 bytes (--max_body_mb).")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/cloudevents+json"},
        {"content-type": "Application/CloudEvents-batch+json; charset=utf-8"},
        {"content-type": "application/json", "ce-specversion": "1.0"},
    ],
)
def test_cloud_events_are_refused(headers):
    assert refused([b"{}"], headers)[0] == 415


def test_a_body_without_a_length_is_cut_at_the_limit():
    assert refused([b"a" * 60, b"b" * 60, b"c" * 60])[0] == 413


def test_a_body_that_dribbles_is_cut_by_the_clock():
    status, headers, body = parse_request([b"a"] * 90, pause=0.05)
    assert (status, headers[b"connection"]) == (408, b"close")
    assert b"did not arrive within 0.2 s" in body


def test_an_answer_that_takes_too_long_is_given_up():
    assert refused([b"slow"]) == (503, "No answer within 0.2 s (--timeout_seconds).")


def test_one_who_goes_away_gets_nothing():
    assert parse_request([]) is None


def test_bodies_together_are_bounded_and_given_back():
    app = guard.guard_app(echo, limits=LIMITS, keys=())
    for _ in range(3 * guard.MAX_BODIES_IN_MEMORY):
        assert parse_request([b"a" * 100], app=app)[0] == 200
        assert parse_request([b"a" * 101], app=app)[0] == 413

    async def many():
        async def one():
            pieces, sent = [b"slow", b"a" * 96, b""], []

            async def receive():
                await asyncio.sleep(0.05)
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

            async def send(message):
                sent.append(message)

            await app({"type": "http", "path": "/", "headers": []}, receive, send)
            return sent[0]["status"]

        return await asyncio.gather(*(one() for _ in range(guard.MAX_BODIES_IN_MEMORY + 2)))

    assert sorted(asyncio.run(many())) == [200] * guard.MAX_BODIES_IN_MEMORY + [503] * 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer one"}, 200),
        ({"authorization": "bearer  two"}, 200),
        ({"x-api-key": "two"}, 200),
        ({"authorization": "Basic one"}, 401),
        ({"authorization": "Bearer on"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"x-api-key": "ones"}, 401),
    ],
)
def test_one_of_the_keys_must_be_shown(headers, status):
    found = parse_request([b"x"], headers, keys=("one", "two"))
    assert found[0] == status
    if status == 401:
        assert found[1][b"www-authenticate"] == b"Bearer"


def test_refusals_gather_no_tracebacks(monkeypatch):
    """An exception that all share would hold the frames of every request that was refused."""
    depths = []

    async def noted(refusal, send):
        depths.append(len(traceback.extract_tb(refusal.__traceback__)))

    monkeypatch.setattr(guard, "_send_error", noted)
    app = guard.guard_app(echo, limits=LIMITS, keys=("one",))
    for _ in range(5):
        parse_request([b"x"], app=app)
    assert len(depths) == 5 and len(set(depths)) == 1


def test_health_and_the_page_need_no_key():
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert parse_request([b""], path=path, keys=("one",))[0] == 200
    for path in ("/about", "/metrics", "/v1/models", "//", "/v2/health"):
        assert parse_request([b""], path=path, keys=("one",))[0] == 401
