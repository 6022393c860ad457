"""A server in a process of its own, and clients that cost little: sockets under asyncio, with requests written beforehand."""

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[2]
GONE = 0  # the status of a request without an answer


class Reply(NamedTuple):
    """An answer: HTTP status (`GONE` without one), its body, when the request began and what it took, in seconds."""

    status: int
    body: bytes
    began: float
    took: float


class Server:
    """`--mode=serve` on a port of its own; `start` again after `stop` or `kill` takes the same port."""

    def __init__(self, model: Path, **flags: float):
        self.model, self.flags, self.port, self.log = model, flags, 0, []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.end(signal.SIGKILL)

    def start(self) -> float:
        """Seconds until it answers."""
        began = time.monotonic()
        flags = [f"--{name}={value}" for name, value in {"port": self.port, **self.flags}.items()]
        line = [sys.executable, "-m", "kerasft.run", "--mode=serve", f"--model={self.model}", *flags]
        self.process = subprocess.Popen(
            line,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        for text in self.process.stdout:
            self.log.append(text)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/ ", text):
                self.port = int(found[1])
                break
        else:
            raise SystemExit("the server did not start:\n" + "".join(self.log))
        threading.Thread(
            target=lambda stream: self.log.extend(stream), args=(self.process.stdout,), daemon=True
        ).start()
        while self.get("/v2/health/ready").status != 200:
            time.sleep(0.02)
        return time.monotonic() - began

    def end(self, number: signal.Signals) -> int:
        """Sends a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def get(self, path: str) -> Reply:
        return asyncio.run(once(self.port, request("GET", path)))

    def metadata(self, path: str = "/about") -> dict:
        return json.loads(self.get(path).body)

    def state(self) -> tuple[float, int, int]:
        """Megabytes of memory, open descriptors, threads (Linux)."""
        folder = Path("/proc", str(self.process.pid))
        kilobytes = int(re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())[1])
        return kilobytes / 1024, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))

    def cpu(self) -> float:
        """Seconds of processor that it has used (Linux)."""
        fields = Path("/proc", str(self.process.pid), "stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP request."""
    given = {"Host": "localhost", "Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def asking(name: str, *contents: bytes) -> bytes:
    """A request for the labels of images."""
    rows = [{"b64": base64.b64encode(content).decode()} for content in contents]
    return request("POST", f"/v1/models/{name}:predict", json.dumps({"instances": rows}).encode())


async def exchange(streams: tuple, asked: bytes) -> tuple[int, bytes]:
    """Sends a request over a connection and reads its answer."""
    reader, writer = streams
    writer.write(asked)
    with contextlib.suppress(ConnectionError):  # it may have answered before it had heard all, and hung up
        await writer.drain()
    return await answer(reader, asked[:5])


async def answer(reader: asyncio.StreamReader, method: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = b""
    while not head or head[9:12] == b"100":  # 100: go on
        head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    if method == b"HEAD ":
        return int(head[9:12]), b""
    return int(head[9:12]), await reader.readexactly(int(length[1])) if length else await reader.read()


async def once(port: int, asked: bytes, seconds: float = 30.0) -> Reply:
    """One request over a connection of its own."""
    began = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(seconds):
            streams = await asyncio.open_connection("127.0.0.1", port)
            writer = streams[1]
            status, body = await exchange(streams, asked)
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        status, body = GONE, b""
    finally:
        if writer:
            writer.close()
    return Reply(status, body, began, time.monotonic() - began)


async def crowd(
    port: int, pick: Callable[[int], bytes], count: int, seconds: float, patience: float = 0.0
) -> list[Reply]:
    """`count` clients, each with one connection, who ask again as soon as they are answered.

    Args:
        pick: the k-th request of all.
        patience: seconds to wait after a refusal.
    """
    replies, number, until = [], 0, time.monotonic() + seconds

    async def client() -> None:
        nonlocal number
        streams = None
        while (began := time.monotonic()) < until:
            number += 1
            try:
                async with asyncio.timeout(60):
                    streams = streams or await asyncio.open_connection("127.0.0.1", port)
                    status, body = await exchange(streams, pick(number))
            except (OSError, EOFError, TimeoutError):
                status, body = GONE, b""
            replies.append(Reply(status, body, began, time.monotonic() - began))
            if status in (429, 503):
                await asyncio.sleep(patience)
            if status not in (200, 429, 400) and streams:  # most of these end the connection
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    await asyncio.gather(*(client() for _ in range(count)))
    return replies


def say(*cells: object) -> None:
    """A row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def heads(title: str, *cells: str) -> None:
    print(f"\n{title}\n")
    say(*cells)
    say(*["---"] * len(cells))


def quick(replies: list[Reply], status: int = 200) -> str:
    """Median and 99th percentile of the milliseconds of answers with a status."""
    took = [1000 * reply.took for reply in replies if reply.status == status]
    return "{:.0f}, {:.0f}".format(*np.percentile(took, (50, 99))) if took else ""


def scores(reply: Reply) -> np.ndarray:
    """All numbers of an answer, in order."""

    def numbers(value) -> list[float]:
        if isinstance(value, dict | list):
            return [x for one in (value.values() if isinstance(value, dict) else value) for x in numbers(one)]
        return [value] if isinstance(value, int | float) else []

    return np.array(numbers(json.loads(reply.body)))


def same(one: Reply, other: Reply) -> bool:
    """Whether two answers agree: to the word, and their numbers as far as batches of other sizes allow."""
    if {one.status, other.status} != {200}:
        return False
    a, b = scores(one), scores(other)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-5))


def counts(replies: list[Reply]) -> dict[int, int]:
    """How many answers there were of each status."""
    found, number = np.unique([reply.status for reply in replies], return_counts=True)
    return dict(zip(found.tolist(), number.tolist()))


def photographs(folder: Path | None, count: int = 64) -> list[bytes]:
    """JPEGs of 500x375: images of a folder, or pieces of the two photographs that scikit-learn brings."""
    rng, contents = np.random.default_rng(0), []
    if folder:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        images = [Image.open(path).convert("RGB") for path in found[:: max(1, len(found) // count)][:count]]
    else:
        from sklearn.datasets import load_sample_images

        whole, images = [Image.fromarray(image) for image in load_sample_images().images], []
        for index in range(count):
            left, top = int(rng.integers(0, 140)), int(rng.integers(0, 52))
            images.append(whole[index % 2].crop((left, top, left + 500, top + 375)))
    for image in images:
        file = io.BytesIO()
        ImageOps.fit(image, (500, 375)).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    return contents


def exported(folder: Path) -> Path:
    """The model of the quickstart, trained into a folder."""
    flags = [
        "--flagfile=pipelines/quickstart.flags",
        f"--run_dir={folder / 'run'}",
        f"--export_dir={folder / 'models'}",
    ]
    subprocess.run([sys.executable, "-m", "kerasft.run", *flags, "--notensorboard"], cwd=ROOT, check=True)
    return folder / "models" / "digits"


@contextlib.contextmanager
def held_open(port: int, count: int, first: bytes = b""):
    """Connections that send the first bytes of a request, and then nothing."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        for one in sockets:
            one.sendall(first)
        yield sockets
    finally:
        for one in sockets:
            one.close()
