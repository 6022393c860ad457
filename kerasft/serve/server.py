"""The server: KServe's, with what it lacks around it.

KServe's Python server (https://github.com/kserve/kserve: `kserve.Model` behind FastAPI and uvicorn) brings both protocols,
health, `/metrics` and an orderly end. It lacks what this package adds: batches, limits on what a request may cost, a key,
TensorFlow Serving's columns, status, metadata and versions, and new versions while it runs. Its gRPC port stays closed,
because none of those limits would hold there.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import warnings
from collections.abc import AsyncIterator

import tensorflow as tf
from fastapi.exceptions import FastAPIDeprecationWarning
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

from kerasft.serve import routes
from kerasft.serve.batching import Batcher
from kerasft.serve.connections import punctual
from kerasft.serve.guard import guarded
from kerasft.serve.limits import Limits
from kerasft.serve.repository import VersionRepository, watch
from kerasft.serve.versions import Source, Version

MAX_CONNECTIONS = 500  # at a time; uvicorn answers 503 to more


def run(listening: socket.socket, source: Source, version: Version, limits: Limits, keys: tuple[str, ...]) -> None:
    """Answers until SIGINT or SIGTERM, then what has come by then.

    Args:
        listening: a bound socket.
        source: where further versions appear.
        version: the one to begin with.
        keys: one of which requests must show; empty for none.

    Raises:
        Exception: what the queue or the watch died of, if they did.
    """
    batcher = Batcher(limits, tf.errors.InvalidArgumentError)
    repository = VersionRepository(source.name, batcher)
    repository.put(version)
    failures = []

    def ended(task: asyncio.Task) -> None:
        """Without its queue or its watch a server would only look alive."""
        if not task.cancelled() and (error := task.exception()):
            failures.append(error)
            signal.raise_signal(signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def lifespan(_) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.work())]
        if not source.pinned:
            tasks.append(asyncio.create_task(watch(repository, source)))
        for task in tasks:
            task.add_done_callback(ended)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    _quiet()
    routes.register(app, repository, limits, lifespan)
    server = RESTServer(
        guarded(app, limits=limits, keys=keys),
        DataPlane(repository),
        ModelRepositoryExtension(repository),
        http_port=listening.getsockname()[1],
        grace_period=int(limits.seconds) + 1,
    )
    server.config.limit_concurrency = MAX_CONNECTIONS
    server.config.http = punctual(limits.seconds + 1)  # whose body is late is told so before, by the guard
    try:
        server.run(sockets=[listening])
    finally:
        if failures:
            raise failures[0]


def _quiet() -> None:
    """No line a request: neither uvicorn's access log nor KServe's traceback of each refused one."""
    for name in ("uvicorn.access", "kserve", "kserve.trace"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = False, True
    warnings.simplefilter("ignore", FastAPIDeprecationWarning)  # of the class that KServe answers with
