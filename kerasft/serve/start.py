"""The mode `serve`: checks the flags and binds the port before anything heavy is imported."""

import errno
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path

from kerasft.console import stderr_filter
from kerasft.export.model_folders import find_fault
from kerasft.serve.limits import Limits
from kerasft.settings import imports
from kerasft.settings.errors import UserError

# The least and the greatest value of each flag.
_FLAG_RANGES = {
    "port": (0, 65535),
    "max_batch": (1, 1024),
    "max_delay_ms": (0, 1000),
    "max_queue": (1, 1_000_000),
    "max_body_mb": (0.001, 2000),
    "max_megapixels": (0.001, 1000),
    "timeout_seconds": (0.1, 3600),
}


def serve(options: dict) -> int:
    """Serves a model until SIGINT or SIGTERM; returns 0, the exit status.

    Args:
        options: `model`, `artefact`, `host`, `api_key_file` and the flags of `make_limits`, by name.

    Raises:
        UserError: a flag is wrong, there is no model, the port cannot be bound, or KServe is not installed.
    """
    limits = make_limits(options)
    keys = read_keys(options["api_key_file"]) if options["api_key_file"] else ()
    if not os.path.isdir(options["model"]):
        raise UserError(f"--model: {find_fault(options['model'])}. Received: {options['model']!r}")
    if importlib.util.find_spec("kserve") is None:
        raise UserError("--mode=serve: needs KServe's server: pip install 'kerasft[serve]'")
    server_socket = bind_socket(options["host"], options["port"])
    # An invalid image is answered to the client, and not logged.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # KServe parses flags of its own when it is imported.
    argv, sys.argv = sys.argv, sys.argv[:1]
    try:
        with stderr_filter.without_notices(), imports.without_garbage_collection():
            from kerasft.console import console
            from kerasft.serve import repository, server, versions
    finally:
        sys.argv = argv
    with server_socket:
        try:
            source = versions.find_source(options["model"], options["artefact"])
            with stderr_filter.without_notices():
                version = repository.load_newest(source, limits.max_batch_size)
            server_socket.listen()
            address, port = server_socket.getsockname()[:2]
            url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
            if not keys and not ipaddress.ip_address(address).is_loopback:
                console.say("warning: without --api_key_file everybody who reaches this machine can use the model")
            console.say(
                f"{source.name}, version {version.number}: page {url}/ , requests {url}/v1/models/{source.name}:predict"
            )
            # libjpeg writes about damaged images of clients.
            with stderr_filter.filter_lines():
                server.run(server_socket, source, version, limits, keys)
        except KeyboardInterrupt:
            # The server has ended in order: uvicorn has answered all requests, and passes the signal on.
            pass
    return 0


def make_limits(options: dict) -> Limits:
    """Returns the Limits of the flags.

    Raises:
        UserError: a flag is out of its range.
    """
    for name, (low, high) in _FLAG_RANGES.items():
        if not low <= options[name] <= high:
            raise UserError(f"--{name}: must be from {low:g} to {high:,}. Received: {options[name]!r}")
    return Limits(
        max_body_bytes=int(options["max_body_mb"] * 1e6),
        max_pixels=int(options["max_megapixels"] * 1e6),
        max_images=options["max_queue"],
        max_batch_size=options["max_batch"],
        max_delay_seconds=options["max_delay_ms"] / 1000,
        timeout_seconds=options["timeout_seconds"],
    )


def read_keys(name: str) -> tuple[str, ...]:
    """Reads API keys from a file, one a line.

    Raises:
        UserError: the file cannot be read, or has no key.
    """
    try:
        keys = tuple(line.strip() for line in Path(name).read_text(encoding="ascii").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api_key_file: cannot be read ({error}). Received: {name!r}") from error
    if not keys:
        raise UserError(f"--api_key_file: must have at least one key, one a line. Received: {name!r}")
    return keys


def bind_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to a port.

    Raises:
        UserError: the port is in use, or not allowed; or the address is not one of this machine.
    """
    server_socket = None
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server_socket = socket.socket(family)
        if os.name == "posix":
            server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server_socket.bind(address)
    # Python raises a UnicodeError for a part of a name that is empty or too long, as in 192.168..1.
    except UnicodeError as error:
        raise UserError(f"--host: is no address or name of a machine. Received: {host!r}") from error
    except OSError as error:
        if server_socket:
            server_socket.close()
        wrong_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        flag = "--host" if wrong_host else "--port"
        raise UserError(f"{flag}: cannot listen there ({error.strerror}). Received: '{host}:{port}'") from error
    return server_socket
