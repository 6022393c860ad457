"""What the server does under load, abuse and accidents, each part by itself: a table a part, and its faults by name.

    load      32 clients, against the bare SavedModel in a loop and against one image at a time; where the time goes
    overload  many more clients than the queue holds: quick refusals, memory, recovery
    swap      versions come and go under the feet of clients
    kill      kill -9 and start again; SIGTERM with requests under way
    slow      bodies and headers that dribble, bodies too large, connections that say nothing
    fuzz      bad requests from a seed
    soak      mixed load, the slope of memory

    python benchmarks/serving/serve.py [--model=DIR] [--images=FOLDER] [--parts=load,...] [--seconds=10] [--fuzz=2000] [--soak=60]

Without a model, the quickstart's is trained first. Linux (memory is read in /proc).
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import serve_faults
import serve_fuzz
import server as serving
from server import Server, asking, counts, heads, quick, say

CLIENTS, ROUNDS = 32, 3


def spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def load(options: argparse.Namespace) -> list[str]:
    """Ratios of images a second: each round all rivals in turn, for as long."""
    import tensorflow as tf

    contents = options.contents
    signature = tf.saved_model.load(str(options.version)).signatures["serving_default"]

    def bare(batch: int) -> float:
        until, began, done = time.monotonic() + options.seconds, time.monotonic(), 0
        while time.monotonic() < until:
            chosen = [contents[(done + k) % len(contents)] for k in range(batch)]
            signature(image_bytes=tf.constant(chosen))
            done += batch
        return done / (time.monotonic() - began)

    speeds = {name: [] for name in ("server", "alone", "bare 1", "bare 32")}
    every, used, wrong = {"server": [], "alone": []}, 0.0, []
    with Server(options.model) as server, Server(options.model, max_batch=1, max_delay_ms=0) as alone:
        asked = [asking(options.name, content) for content in contents]
        for _ in range(ROUNDS):
            for name, one in (("server", server), ("alone", alone)):
                before, began = one.cpu(), time.monotonic()
                replies = asyncio.run(
                    serving.crowd(one.port, lambda k: asked[k % len(asked)], CLIENTS, options.seconds)
                )
                speeds[name].append(len(replies) / (time.monotonic() - began))
                every[name] += replies
                used += (one.cpu() - before) if one is server else 0
            for batch in (1, 32):
                bare(batch) if not speeds[f"bare {batch}"] else None  # traced once
                speeds[f"bare {batch}"].append(bare(batch))
    heads(
        f"{CLIENTS} clients, JPEGs of 500x375",
        "against",
        "times as fast",
        "images/s",
        "rival",
        "p50, p99 ms",
        "rival",
    )
    for title, rival in (
        ("one at a time", "alone"),
        ("bare loop, batch 1", "bare 1"),
        ("bare loop, batch 32", "bare 32"),
    ):
        ratios = [ours / theirs for ours, theirs in zip(speeds["server"], speeds[rival])]
        times = quick(every[rival]) if rival in every else ""
        ours = f"{np.median(speeds['server']):.0f}"
        say(
            title,
            spread(ratios),
            ours,
            f"{np.median(speeds[rival]):.0f}",
            quick(every["server"]),
            times,
        )
    shares(options, 1000 * used / len(every["server"]))
    for name, replies in every.items():
        if set(counts(replies)) != {200}:
            wrong.append(f"load: {name}: answers by status {counts(replies)}")
    return wrong


def shares(options: argparse.Namespace, used: float) -> None:
    """Where the processor's time for an image goes: parts measured alone, the rest is HTTP, asyncio and KServe."""
    import orjson
    import tensorflow as tf

    from kerasft.data import decode
    from kerasft.serve import image_checks

    loaded = tf.saved_model.load(str(options.version))
    contents, size = options.contents[:32], options.metadata["image_size"]
    bodies = [asking(options.name, content).partition(b"\r\n\r\n")[2] for content in contents]
    decoding = tf.function(lambda batch: decode.decode_batch(batch, size, "crop"))
    images = tf.cast(decoding(tf.constant(contents)), tf.float32)

    def read() -> None:
        for body in bodies:
            image_checks.check_image(
                image_checks.decode_base64(orjson.loads(body)["instances"][0]["b64"], ""), 10**9, ""
            )

    parts = {
        "JSON, base64, a look at the header": read,
        "decoding and resizing": lambda: decoding(tf.constant(contents)),
        "the network": lambda: loaded.signatures["images"](images=images),
    }
    heads("Processor time for an image", "part", "share", "ms")
    left = used
    for name, work in parts.items():
        work()
        began = time.process_time()
        for _ in range(10):
            work()
        took = 1000 * (time.process_time() - began) / 10 / len(contents)
        left -= took
        say(name, f"{took / used:.0%}", f"{took:.2f}")
    say("the rest: HTTP, asyncio, KServe, waiting threads", f"{left / used:.0%}", f"{left:.2f}")
    say("all of the server", "100%", f"{used:.2f}")


def overload(options: argparse.Namespace) -> list[str]:
    """Up to 22 times as many clients as the queue holds."""
    heads(
        "More clients than the queue of 32 holds",
        "clients",
        "answered/s",
        "p50, p99 ms",
        "refused/s",
        "p50, p99 ms",
        "MB",
    )
    wrong = []
    with Server(options.model, max_queue=32) as server:
        asked = [asking(options.name, content) for content in options.contents]
        for count, patience in ((CLIENTS, 0), (128, 0), (128, 1), (480, 0), (480, 1), (700, 0), (CLIENTS, 0)):
            replies = asyncio.run(
                serving.crowd(server.port, lambda k: asked[k % len(asked)], count, options.seconds, patience)
            )
            found, seconds = counts(replies), options.seconds
            refused = 429 if 429 in found else 503
            busy = found.get(429, 0) + found.get(503, 0)
            say(
                f"{count}, {f'patient for {patience} s' if patience else 'at once again'}",
                f"{found.get(200, 0) / seconds:.0f}",
                quick(replies),
                f"{busy / seconds:.0f}",
                quick(replies, refused),
                f"{server.state()[0]:.0f}",
            )
            if set(found) - {200, 429, 503} and count < 500:  # above it connections are refused
                wrong.append(f"overload: answers by status {found}")
        began = time.monotonic()
        status = asyncio.run(serving.once(server.port, asked[0])).status
        say("1, at once after", "", f"{1000 * (time.monotonic() - began):.0f}", "", "", f"{server.state()[0]:.0f}")
        if status != 200:
            wrong.append(f"overload: {status} after it")
    return wrong


def soak(options: argparse.Namespace) -> list[str]:
    """Good requests, and each twentieth a bad one; memory each second."""
    heads(
        f"{options.soak} s of mixed load",
        "requests",
        "by status",
        "MB at a third",
        "MB at the end",
        "MB a minute since",
        "descriptors",
        "threads",
    )
    bad = [one for _, one in serve_fuzz.attacks(options, 400)]
    good = [asking(options.name, content) for content in options.contents]
    good += [asking(options.name, *options.contents[:8])]
    samples = []

    async def watch() -> None:
        end = time.monotonic() + options.soak
        while time.monotonic() < end:
            samples.append((time.monotonic(), *server.state()))
            await asyncio.sleep(1)

    def pick(k: int) -> bytes:
        return bad[k // 20 % len(bad)] if k % 20 == 0 else good[k % len(good)]

    async def both():
        return await asyncio.gather(serving.crowd(server.port, pick, 16, options.soak), watch())

    with Server(options.model) as server:
        replies, _ = asyncio.run(both())
    third = len(samples) // 3
    times, memory = np.array([s[0] for s in samples[third:]]), np.array([s[1] for s in samples[third:]])
    slope = 60 * np.polyfit(times - times[0], memory, 1)[0]
    found = counts(replies)
    ends = [f"{samples[third][k]} - {samples[-1][k]}" for k in (2, 3)]
    say(len(replies), found, f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{slope:+.1f}", *ends)
    return [f"soak: answers by status {found}"] if any(500 <= s < 600 and s not in (503, 504) for s in found) else []


PARTS = {"load": load, "overload": overload} | serve_faults.PARTS | {"fuzz": serve_fuzz.fuzz, "soak": soak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported folder of versions")
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--fuzz", type=int, default=2000, help="bad requests")
    parser.add_argument("--soak", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        options.model = (options.model or serving.exported(Path(folder))).resolve()
        options.name, options.contents = options.model.name, serving.photographs(options.images)
        from kerasft.export.model_folders import newest, read_metadata

        options.version = newest(str(options.model))
        options.metadata = read_metadata(options.version)
        options.output = "values" if options.metadata["task"] == "regression" else "probabilities"
        for part in options.parts.split(","):
            wrong += PARTS[part](options)
    print(f"\n{len(wrong)} faults")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
