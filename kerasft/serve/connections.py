"""Connections whose requests do not arrive are closed.

uvicorn waits without end for the head of a request, and for the rest of a body that it has refused. As it answers 503 to all
while too many connections are open, a few hundred silent ones would shut everybody out.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def punctual(seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, that hangs up where a request has not arrived whole so long after its first byte.

    The first request counts from the connection on; between two, uvicorn's own limit holds.
    """

    class Punctual(HttpToolsProtocol):
        _late = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._expect()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect()

        def on_message_complete(self) -> None:
            self._late.cancel()
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

        def _expect(self) -> None:
            if self._late:
                self._late.cancel()
            self._late = self.loop.call_later(seconds, self.transport.close)

    return Punctual
