"""Patience: what is asked again, for how long, and what is said in the end."""

import io
import socket
import ssl
from email.message import Message
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest

from kerasft.predict import http_json
from kerasft.settings.errors import UserError


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that only waits and requests move."""
    clock = SimpleNamespace(now=1000.0, waits=[])

    def sleep(seconds: float) -> None:
        clock.waits.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(http_json.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(http_json.time, "sleep", sleep)
    return clock


def _call(clock, errors: list[Exception], seconds: float = 0):
    """A request that takes so long and fails so often."""

    def call() -> dict:
        clock.now += seconds
        if errors:
            raise errors.pop(0)
        return {"fine": True}

    return call


def _status(code: int, retry_after: str = "") -> HTTPError:
    headers = Message()
    headers["Retry-After"] = retry_after
    return HTTPError("", code, "busy", headers, io.BytesIO())


TRANSIENT = [
    TimeoutError("timed out"),
    URLError(TimeoutError("timed out")),
    URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
    URLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    URLError(ConnectionRefusedError(111, "Connection refused")),
    _status(503),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
def test_what_may_pass_is_asked_again_also_after_a_long_timeout(clock, error):
    call = _call(clock, [error], http_json.ANSWER_TIMEOUT_SECONDS)
    assert http_json.with_retries("http://x", call) == {"fine": True}
    assert len(clock.waits) == 1


FINAL = [
    URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
    URLError(ssl.SSLCertVerificationError(1, "certificate verify failed")),
    ssl.SSLCertVerificationError(1, "certificate verify failed"),
]


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_what_waiting_cannot_help_ends_at_once(clock, error):
    with pytest.raises(UserError, match=r"--url: (Name or service|certificate verify).* Received: 'http://x'"):
        http_json.with_retries("http://x", _call(clock, [error]))
    assert clock.waits == []


@pytest.mark.parametrize(("seconds", "said"), [(0, 60), (120, 240)])
def test_the_seconds_are_those_that_passed(clock, seconds, said):
    """Also where each request takes two minutes by itself."""
    call = _call(clock, [TimeoutError("timed out")] * 100, seconds)
    with pytest.raises(UserError, match=rf"no answer within {said} seconds \(timed out\)"):
        http_json.with_retries("http://x", call)


def test_a_server_that_asks_for_more_than_our_patience_is_asked_at_its_end(clock, capsys):
    assert http_json.with_retries("http://x", _call(clock, [_status(429, "90")])) == {"fine": True}
    assert clock.waits == [http_json.RETRY_SECONDS]
    assert capsys.readouterr().out == "waiting for http://x: 429 busy\n"
    with pytest.raises(UserError, match=r"no answer within 60 seconds \(429 busy\)"):
        http_json.with_retries("http://x", _call(clock, [_status(429, "90")] * 2))
