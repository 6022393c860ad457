"""Accidents and malice for `serve.py`: versions that change, signals, clients that dribble."""

import argparse
import asyncio
import base64
import json
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import server as serving
from server import GONE, Server, asking, counts, heads, quick, request, say


async def _slowly(source: Path, target: Path) -> None:
    """Copies a folder file by file, in the worst way there is: under its final name."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            shutil.copyfile(path, place)
            await asyncio.sleep(0.5)


async def _changes(folder: Path, port: int) -> list[tuple[str, int, float, float]]:
    """What was changed, the version that should answer, when it was changed, and when it answered (or a minute later)."""
    steps = []

    async def step(what: str, version: int) -> None:
        began = time.monotonic()
        while time.monotonic() < began + 60:
            reply = await serving.once(port, request("GET", "/about"))
            if reply.status == 200 and json.loads(reply.body)["version"] == version:
                break
            await asyncio.sleep(0.05)
        steps.append((what, version, began, time.monotonic()))
        await asyncio.sleep(2)

    await asyncio.sleep(2)
    shutil.copytree(folder / "1", folder / ".draft")
    (folder / ".draft").rename(folder / "2")
    await step("2 appears", 2)
    await _slowly(folder / "1", folder / "3")
    await step("3 was copied file by file", 3)
    shutil.rmtree(folder / "3")
    await step("3 is removed", 2)
    (folder / "2").rename(folder / ".gone")
    await step("2 is removed", 1)
    return steps


def swap(options: argparse.Namespace) -> list[str]:
    """Version 2 appears whole, 3 file by file, then both go again, while eight clients ask."""
    heads(
        "Versions change under eight clients",
        "what",
        "until it answers, s",
        "answers in between: p50, p99 ms",
        "versions in the 2 s after",
    )
    asked = []
    for content in options.contents:  # protocol v2 names the version in its answers
        tensor = {
            "name": "image_bytes",
            "shape": [1],
            "datatype": "BYTES",
            "data": [base64.b64encode(content).decode()],
        }
        body = json.dumps({"inputs": [tensor], "outputs": [{"name": options.output}]}).encode()
        asked.append(request("POST", f"/v2/models/{options.name}/infer", body))

    async def beside(folder: Path, port: int):
        changing, replies = asyncio.create_task(_changes(folder, port)), []
        while not changing.done():
            replies += await serving.crowd(port, lambda k: asked[k % len(asked)], 8, 1.0)
        return replies, await changing

    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, options.name)
        shutil.copytree(options.version, folder / "1")
        with Server(folder) as server:
            replies, steps = asyncio.run(beside(folder, server.port))
    found = counts(replies)
    wrong = [] if set(found) == {200} else [f"swap: answers by status {found}"]
    good = [(reply, int(json.loads(reply.body).get("model_version", -1))) for reply in replies if reply.status == 200]
    for what, version, began, ended in steps:
        after = {answered for reply, answered in good if ended < reply.began < ended + 2}
        between = [reply for reply, _ in good if began < reply.began < ended]
        say(what, f"{ended - began:.1f}", quick(between), after)
        if after != {version}:
            wrong.append(f"swap: {what}: answers of versions {after} instead of {version}")
    say("all answers, by status", "", quick(replies), found)
    return wrong


def kill(options: argparse.Namespace) -> list[str]:
    """kill -9 and a start on the same port; SIGTERM while requests are under way."""
    heads("Signals", "what", "seconds", "answers by status")
    wrong = []
    with Server(options.model) as server:
        asked = [asking(options.name, content) for content in options.contents]
        first = asyncio.run(serving.once(server.port, asked[0]))
        server.end(signal.SIGKILL)
        seconds = server.start()
        again = asyncio.run(serving.once(server.port, asked[0]))
        say("kill -9, started again, ready", f"{seconds:.1f}", counts([again]))
        if not serving.same(first, again):
            wrong.append("kill: another answer after it")

        async def under_way(count: int) -> list[int]:
            streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
            for k, (_, writer) in enumerate(streams):
                writer.write(asked[k % len(asked)])
                await writer.drain()
            await asyncio.sleep(0.05)
            server.process.send_signal(signal.SIGTERM)
            found = []
            for reader, writer in streams:
                try:
                    async with asyncio.timeout(30):
                        found.append((await serving.answer(reader))[0])
                except (OSError, EOFError, TimeoutError):
                    found.append(GONE)
                writer.close()
            return found

        began = time.monotonic()
        statuses = asyncio.run(under_way(64))
        code = server.process.wait(60)
        found = dict(zip(*(column.tolist() for column in np.unique(statuses, return_counts=True))))
        say(f"SIGTERM with 64 requests under way, ended with status {code}", f"{time.monotonic() - began:.1f}", found)
        if set(found) != {200} or code:
            wrong.append(f"kill: SIGTERM: answers {found}, exit status {code}")
    return wrong


def slow(options: argparse.Namespace) -> list[str]:
    """Each abuse beside eight honest clients, at a limit of three seconds for a request."""
    heads(
        "Slow and oversize, --timeout_seconds=3 --max_body_mb=2",
        "abuse (32 at a time)",
        "cut off with",
        "after seconds",
        "others: p50, p99 ms",
        "by status",
    )
    path, wrong = f"/v1/models/{options.name}:predict", []
    asked = [asking(options.name, content) for content in options.contents]
    whole = request("POST", path, b"x" * 100_000)
    start, middle = whole.index(b"\r\n\r\n") + 4, len(whole) // 2
    chunked = request("POST", path, Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")

    async def dribble(port: int, first: bytes, more: bytes, pause: float) -> tuple[int, float]:
        """Status and seconds of a client who sends a first piece, then small ones with pauses."""
        began, status = time.monotonic(), GONE
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        writer.write(first)
        reading = asyncio.create_task(serving.answer(reader))
        try:
            while not reading.done() and time.monotonic() - began < 15:
                if more:
                    writer.write(more)
                    await writer.drain()
                await asyncio.wait([reading], timeout=pause)
            if reading.done():
                status = reading.result()[0]
        except (OSError, EOFError):
            pass
        took = time.monotonic() - began
        reading.cancel()
        writer.close()
        return (status, took) if took < 15 else (-1, took)

    abuses = {  # first bytes, then what again and again, with what pause
        "nothing but good requests": None,
        "a body that dribbles": (whole[: start + 10], b"x", 0.2, {408}),
        "half a body, then nothing": (whole[:middle], b"", 0.2, {408}),
        "a length above the limit": (request("POST", path, Content_Length="3000000"), b"x" * 1000, 0.2, {413}),
        "chunks above the limit": (chunked, b"10000\r\n" + b"x" * 65536 + b"\r\n", 0.01, {413, 503}),
        "headers that dribble": (b"POST / HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n", 0.2, {GONE, 400, 408}),
        "connections that say nothing": (b"", b"", 0.2, {GONE, 408}),
    }

    async def both(port: int, abuse):
        jobs = [dribble(port, *abuse[:3]) for _ in range(32)] if abuse else []
        replies, *found = await asyncio.gather(serving.crowd(port, lambda k: asked[k % len(asked)], 8, 5), *jobs)
        return replies, found

    with Server(options.model, timeout_seconds=3, max_body_mb=2) as server:
        for name, abuse in abuses.items():
            replies, found = asyncio.run(both(server.port, abuse))
            statuses, seconds = {s for s, _ in found}, [s for _, s in found]
            said = {GONE: "closed", -1: "not cut off"}
            metadata = ", ".join(str(said.get(s, s)) for s in sorted(statuses))
            say(name, metadata, f"{max(seconds):.1f}" if found else "", quick(replies), counts(replies))
            others = {200, 503} & ({200} | (abuse[3] if abuse else set()))  # where memory is used up, 503 is right
            if not set(counts(replies)) <= others or (abuse and not statuses <= abuse[3]):
                wrong.append(f"slow: {name}: {metadata}; others {counts(replies)}")
    return wrong


PARTS = {"swap": swap, "kill": kill, "slow": slow}
