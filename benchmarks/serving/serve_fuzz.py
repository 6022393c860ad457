"""Bad requests from a seed, for `serve.py`: JSON, base64, images, headers and paths that are wrong in many ways."""

import argparse
import asyncio
import base64
import json
import random
import struct
import time
import zlib

import server as serving
from server import Server, asking, counts, heads, request, say

OURS = range(500, 600)  # statuses that are the server's own fault, but for 503 and 504
WAITING = ("headers", "no HTTP")  # some of these promise more bytes than they bring


def bomb(side: int) -> bytes:
    """A PNG of side x side zeros, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(side // 8 + 2)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def attacks(options: argparse.Namespace, count: int) -> list[tuple[str, bytes]]:
    """Bad requests, with what each is, from `--seed`."""
    rng = random.Random(options.seed)
    path, other = f"/v1/models/{options.name}:predict", f"/v2/models/{options.name}/infer"
    giant = bomb(30_000)

    def b64(content: bytes) -> str:
        return base64.b64encode(content).decode()

    def v1(*values: object, **more: object) -> bytes:
        return request("POST", path, json.dumps({"instances": list(values), **more}).encode())

    def v2(**tensor: object) -> bytes:
        given = {
            "name": "image_bytes",
            "shape": [1],
            "datatype": "BYTES",
            "data": [b64(rng.choice(options.contents))],
            **tensor,
        }
        return request("POST", other, json.dumps({"inputs": [given]}).encode())

    def damaged() -> bytes:
        content = bytearray(rng.choice(options.contents))
        for _ in range(rng.randint(1, 60)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content)

    def mutated() -> bytes:
        text = bytearray(json.dumps({"instances": [{"b64": b64(rng.choice(options.contents))}]}).encode())
        for _ in range(rng.randint(1, 8)):
            place = rng.choice((rng.randrange(30), len(text) - 1 - rng.randrange(30)))
            text[place] = rng.randrange(256)
        return request("POST", path, bytes(text))

    values = (
        None,
        True,
        -1,
        0,
        1e308,
        "",
        "a",
        "\ud800",
        "ÿ" * 50,
        [],
        [[]],
        {},
        {"b64": None},
        {"b64": 7},
        {"b64": ["a"]},
        {"b64": ""},
    )
    literals = (b"NaN", b"-Infinity", b"1e999999", b"9" * 5000, b'{"b64": "' + b"\xff\xfe" + b'"}', b'"\\ud800"')
    kinds = {
        "no JSON": lambda: request("POST", path, rng.randbytes(rng.randint(0, 400))),
        "JSON, mutated": mutated,
        "JSON, cut off": lambda: request(
            "POST", path, v1({"b64": b64(options.contents[0])}).partition(b"\r\n\r\n")[2][: rng.randint(1, 5000)]
        ),
        "JSON of another form": lambda: request("POST", path, json.dumps(rng.choice(values)).encode()),
        "other instances": lambda: v1(*(rng.choice(values) for _ in range(rng.randint(0, 5)))),
        "no base64": lambda: v1({"b64": "".join(chr(rng.randint(1, 0x2FFF)) for _ in range(rng.randint(1, 50)))}),
        "no image": lambda: v1({"b64": b64(rng.randbytes(rng.randint(1, 2000)))}),
        "the start of an image": lambda: v1({"b64": b64((c := rng.choice(options.contents))[: rng.randrange(len(c))])}),
        "a damaged image": lambda: v1({"b64": b64(damaged())}),
        "one bad among good": lambda: v1(
            *({"b64": b64(c)} for c in options.contents[:3]), {"b64": b64(damaged()[:999])}
        ),
        "a bomb": lambda: v1({"b64": b64(giant)}),
        "deep nesting": lambda: request(
            "POST", path, b'{"instances": ' + b"[" * (n := rng.randint(10, 100_000)) + b"]" * n + b"}"
        ),
        "numbers": lambda: request(
            "POST", rng.choice((path, other)), b'{"instances": [' + rng.choice(literals) + b"]}"
        ),
        "another signature": lambda: v1(
            {"b64": ""}, signature_name=rng.choice(("images", "features", "x", "", 7, None, ["a"], "__init__"))
        ),
        "floats": lambda: v1(rng.choice(([[0.5]], 1e308, [[[1, 2, 3]] * 4] * 4, "NaN")), signature_name="images"),
        "v2, another type": lambda: v2(
            datatype=rng.choice(("FP32", "INT64", "UINT8", "BOOL", "FP16", "", 7, None, "BYTE"))
        ),
        "v2, another shape": lambda: v2(
            shape=rng.choice(([], [0], [2], [-1], [1, 1, 1, 2], [2**63], [1e30], "1", None, [None], [[1]]))
        ),
        "v2, other data": lambda: v2(
            data=rng.choice(([], [None], "a", [["a"]], [1.5], {"a": 1}, [b64(rng.randbytes(99))]))
        ),
        "v2, binary lengths": lambda: request(
            "POST",
            other,
            json.dumps(
                {
                    "inputs": [
                        {
                            "name": "image_bytes",
                            "shape": [1],
                            "datatype": "BYTES",
                            "parameters": {"binary_data_size": rng.choice((-1, 0, 3, 10**12, "x", None))},
                        }
                    ]
                }
            ).encode()
            + rng.randbytes(rng.randint(0, 50)),
            Inference_Header_Content_Length=rng.choice(("0", "-1", "10", "99999999", "x", "130", "1e3")),
        ),
        "another method": lambda: request(
            rng.choice(("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO")),
            rng.choice((path, other, "/", "/about")),
        ),
        "another path": lambda: request(
            rng.choice(("GET", "POST")),
            rng.choice(
                (
                    "/v1/models/",
                    "/v1/models/x:predict",
                    "/v2/models/x/infer",
                    "/../../etc/passwd",
                    "/%00",
                    "/%ff%fe",
                    "//",
                    "/v1/models/" + "a" * 5000,
                    path + "/",
                    "/v2/repository/index",
                    "/docs",
                    "/metrics",
                    path.replace(":", "/versions/99:"),
                    path.replace(":", "/versions/x:"),
                )
            ),
            b"{}",
        ),
        "headers": lambda: request(
            "POST",
            path,
            b"{}",
            **rng.choice(
                (
                    {"Content_Length": "-1"},
                    {"Content_Length": "9" * 30},
                    {"Content_Length": "x"},
                    {"Content_Type": "\xff" * 99},
                    {"X": "y" * 70_000},
                    {"Transfer_Encoding": "chunked"},
                    {"Content_Encoding": "gzip"},
                    {"Expect": "100-continue"},
                    {"X_Api_Key": "\xe9"},
                    {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "x", "ce-source": "y"},
                    {"Content_Type": "application/cloudevents+json"},
                    {"Content_Type": "application/octet-stream"},
                    {"Inference_Header_Content_Length": "5"},
                    {"Upgrade": "websocket", "Connection": "Upgrade"},
                )
            ),
        ),
        "no HTTP": lambda: (
            rng.choice(
                (
                    rng.randbytes(300),
                    b"GET\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"\r\n" * 50,
                    b"\x16\x03\x01\x02\x00" + rng.randbytes(100),
                )
            )
            + b"\r\n\r\n"
        ),
    }
    names = list(kinds)
    return [(name := names[k % len(names)], kinds[name]()) for k in range(count)]


def fuzz(options: argparse.Namespace) -> list[str]:
    """Bad requests, eight at a time, each over a connection of its own, with ten seconds for an answer."""
    heads(f"{options.fuzz} bad requests, seed {options.seed}", "kind", "answers by status")
    tried, wrong, found = attacks(options, options.fuzz), [], {}
    good = asking(options.name, *options.contents[:4])

    async def all_of_them(port: int) -> None:
        gate = asyncio.Semaphore(8)

        async def one(index: int, kind: str, asked: bytes) -> None:
            async with gate:
                reply = await serving.once(port, asked, 10)
            found.setdefault(kind, []).append(reply)
            if reply.took >= 10 and kind not in WAITING:
                wrong.append(f"fuzz: {kind}: no answer in 10 s: number {index}: {asked[:200]!r}")
            if (
                reply.status in OURS
                and reply.status not in (503, 504)
                and (kind, reply.status) != ("another method", 501)
            ):
                wrong.append(f"fuzz: {kind}: {reply.status} {reply.body[:200]!r}: number {index}: {asked[:300]!r}")

        await asyncio.gather(*(one(k, *attack) for k, attack in enumerate(tried)))

    with Server(options.model) as server:
        before = [asyncio.run(serving.once(server.port, good)) for _ in range(50)][-1]
        begun = server.state()
        asyncio.run(all_of_them(server.port))
        time.sleep(7)  # uvicorn keeps a quiet connection for five seconds
        ended, after = server.state(), asyncio.run(serving.once(server.port, good))
        alive = server.process.poll() is None
        known = [line for line in server.log if "Traceback" in line]
    for kind, replies in found.items():
        say(kind, counts(replies))
    say("memory, MB, before and after", f"{begun[0]:.0f}, {ended[0]:.0f}")
    say("open descriptors, threads, before and after", f"{begun[1]}, {begun[2]}; {ended[1]}, {ended[2]}")
    if known:
        wrong.append(f"fuzz: {len(known)} tracebacks in the log: {''.join(server.log[-40:])[-1500:]}")
    if not alive or not serving.same(before, after):
        wrong.append("fuzz: a good request is answered otherwise after it")
    if ended[1] > begun[1] + 4:
        wrong.append(f"fuzz: {ended[1] - begun[1]} descriptors were left open")
    return wrong
