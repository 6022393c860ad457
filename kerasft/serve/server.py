"""KServe's server with dynamic batching, limits, API keys and model versions.

KServe's Python server (https://github.com/kserve/kserve: `kserve.Model` behind FastAPI and uvicorn) has both protocols,
health checks, `/metrics` and a graceful shutdown. This package adds dynamic batching, limits on requests, API keys, the rest
of TensorFlow Serving's REST API (column format, status, metadata, versions), and new versions while the server runs.
The gRPC port stays closed, because these limits would not hold there.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import warnings
from collections.abc import AsyncIterator

from fastapi.exceptions import FastAPIDeprecationWarning
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

from kerasft.runtimes import InvalidImage
from kerasft.serve import routes
from kerasft.serve.batching import Batcher
from kerasft.serve.connections import protocol_with_timeout
from kerasft.serve.guard import guard_app
from kerasft.serve.limits import Limits
from kerasft.serve.repository import VersionRepository, watch_folder
from kerasft.serve.versions import Source, Version

# So many connections may be open at a time. uvicorn answers 503 to more.
MAX_CONNECTIONS = 500


def run(server_socket: socket.socket, source: Source, version: Version, limits: Limits, keys: tuple[str, ...]) -> None:
    """Answers requests until SIGINT or SIGTERM, then finishes those that have arrived.

    Args:
        server_socket: a bound socket.
        source: the folder of the model, where new versions appear.
        version: the first one to serve.
        keys: a request must have one of them; empty if no key is needed.

    Raises:
        Exception: the batching queue or the folder watch has failed.
    """
    batcher = Batcher(limits, InvalidImage)
    repository = VersionRepository(source.name, batcher)
    repository.put(version)
    failures = []

    def stop_on_failure(task: asyncio.Task) -> None:
        """Stops the server: without its queue or its folder watch it would only seem to work."""
        if not task.cancelled() and (error := task.exception()):
            failures.append(error)
            signal.raise_signal(signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def lifespan(_) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run())]
        if not source.pinned:
            tasks.append(asyncio.create_task(watch_folder(repository, source)))
        for task in tasks:
            task.add_done_callback(stop_on_failure)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    _disable_request_logs()
    routes.register(app, repository, limits, lifespan)
    server = RESTServer(
        guard_app(app, limits=limits, keys=keys),
        DataPlane(repository),
        ModelRepositoryExtension(repository),
        http_port=server_socket.getsockname()[1],
        grace_period=int(limits.timeout_seconds) + 1,
    )
    server.config.limit_concurrency = MAX_CONNECTIONS
    # One second later than the guard, which answers 408 to a late body.
    server.config.http = protocol_with_timeout(limits.timeout_seconds + 1)
    try:
        server.run(sockets=[server_socket])
    finally:
        if failures:
            raise failures[0]


def _disable_request_logs() -> None:
    """Disables uvicorn's access log, and KServe's traceback for each refused request."""
    for name in ("uvicorn.access", "kserve", "kserve.trace"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = False, True
    # KServe uses a deprecated response class.
    warnings.simplefilter("ignore", FastAPIDeprecationWarning)
