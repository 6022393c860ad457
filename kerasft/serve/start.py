"""The mode `serve`: what the flags say, checked before anything heavy is loaded; the port is taken first."""

import errno
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path

from kerasft.console import stderr_filter
from kerasft.serve.limits import Limits
from kerasft.settings.errors import UserError

_RULES = {  # flag: least and greatest value
    "port": (0, 65535),
    "max_batch": (1, 1024),
    "max_delay_ms": (0, 1000),
    "max_queue": (1, 1_000_000),
    "max_body_mb": (0.001, 2000),
    "max_megapixels": (0.001, 1000),
    "timeout_seconds": (0.1, 3600),
}


def serve(asked: dict) -> int:
    """Serves a model until SIGINT or SIGTERM; returns 0, the exit status.

    Args:
        asked: `model`, `host`, `api_key_file` and the flags of `limits_of`, by name.

    Raises:
        UserError: a wrong flag, no model, a port that cannot be taken, or KServe is not installed.
    """
    limits = limits_of(asked)
    keys = read_keys(asked["api_key_file"]) if asked["api_key_file"] else ()
    if not asked["model"]:
        raise UserError("--model: the folder of an exported model is needed, such as saved_models/NAME. Received: ''")
    if not Path(asked["model"]).is_dir():
        raise UserError(f"--model: must be a SavedModel, or a folder of numbered ones. Received: {asked['model']!r}")
    if importlib.util.find_spec("kserve") is None:
        raise UserError("--mode=serve: needs KServe's server: pip install 'kerasft[serve]'")
    listening = bind(asked["host"], asked["port"])
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # a broken picture is told to its sender, not to the screen
    argv, sys.argv = sys.argv, sys.argv[:1]  # KServe reads flags of its own as it is imported
    try:
        with stderr_filter.without_notices():
            from kerasft.console import console
            from kerasft.serve import repository, server, versions
    finally:
        sys.argv = argv
    with listening:
        try:
            source = versions.source(asked["model"])
            with stderr_filter.without_notices():
                version = repository.first(source, limits.batch)
            listening.listen()
            address, port = listening.getsockname()[:2]
            url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
            if not keys and not ipaddress.ip_address(address).is_loopback:
                console.say("warning: anybody who reaches this machine may ask, for there is no --api_key_file")
            console.say(
                f"{source.name}, version {version.number}: page {url}/ , requests {url}/v1/models/{source.name}:predict"
            )
            with stderr_filter.filtered():  # libjpeg's word about a damaged picture of somebody's
                server.run(listening, source, version, limits, keys)
        except KeyboardInterrupt:
            pass  # an orderly end: uvicorn has answered what had come, and passes the signal on
    return 0


def limits_of(asked: dict) -> Limits:
    """The Limits that flags give.

    Raises:
        UserError: one is out of its range.
    """
    for name, (least, most) in _RULES.items():
        if not least <= asked[name] <= most:
            raise UserError(f"--{name}: must be from {least:g} to {most:,}. Received: {asked[name]!r}")
    return Limits(
        body_bytes=int(asked["max_body_mb"] * 1e6),
        pixels=int(asked["max_megapixels"] * 1e6),
        pictures=asked["max_queue"],
        batch=asked["max_batch"],
        delay=asked["max_delay_ms"] / 1000,
        seconds=asked["timeout_seconds"],
    )


def read_keys(name: str) -> tuple[str, ...]:
    """The keys of a file, one a line.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    try:
        keys = tuple(line.strip() for line in Path(name).read_text(encoding="ascii").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api_key_file: cannot be read ({error}). Received: {name!r}") from error
    if not keys:
        raise UserError(f"--api_key_file: must hold a key, one a line. Received: {name!r}")
    return keys


def bind(host: str, port: int) -> socket.socket:
    """A socket on a port, taken before the model is loaded.

    Raises:
        UserError: it is taken, or not allowed.
    """
    listening = None
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        if listening:
            listening.close()
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        flag = "--host" if elsewhere else "--port"
        raise UserError(f"{flag}: cannot be listened on ({error.strerror}). Received: '{host}:{port}'") from error
    return listening
