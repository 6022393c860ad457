"""Closes connections whose request does not arrive.

uvicorn waits without limit for the head of a request, and for the rest of a body that it has refused. It answers 503 to
everybody while too many connections are open. So a few hundred silent connections would block the server.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def protocol_with_timeout(seconds: float) -> type[HttpToolsProtocol]:
    """Returns uvicorn's protocol with a time limit for each request, from its first byte to its last.

    The time of the first request starts with the connection. Between two requests uvicorn's own limit holds.
    """

    class TimeoutProtocol(HttpToolsProtocol):
        _timer = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._restart_timer()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._restart_timer()

        def on_message_complete(self) -> None:
            self._timer.cancel()
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _restart_timer(self) -> None:
            if self._timer:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self.transport.close)

    return TimeoutProtocol
