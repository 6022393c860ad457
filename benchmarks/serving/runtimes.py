"""`kerasft serve` with artefacts for other runtimes against the SavedModel of the same run: start-up, memory, speed, answers.

Each round measures all of them in turn. Start-up is from the start of the process to its first answer.

    python benchmarks/serving/runtimes.py --saved_model=saved_models/NAME --exports=exports/NAME [--artefacts=onnx,litert]
        [--images=FOLDER] [--seconds=5] [--rounds=3]

It exits with 1 where an artefact misses a goal: 2 s, 250 MB, the images a second of TensorFlow, answers within 1e-4
(in float32). Linux (memory is read in /proc).
"""

import argparse
import asyncio
import contextlib
import io
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import server as serving
from PIL import Image, ImageOps
from server import Server, asking, heads, say

CLIENTS = 32
MAX_SECONDS, MAX_MEGABYTES, TOLERANCE = 2.0, 250, 1e-4
TENSORFLOW = "savedmodel"


def probabilities(server: Server, name: str, contents: list[bytes]) -> np.ndarray:
    """The probabilities or values of images, float [N, C]."""
    rows = []
    for content in contents:
        reply = asyncio.run(serving.once(server.port, asking(name, content)))
        (row,) = json.loads(reply.body)["predictions"]
        rows.append(row["probabilities"] if isinstance(row, dict) else row)
    return np.array(rows)


def start_up(options: argparse.Namespace, rivals: dict[str, Server]) -> dict[str, list[float]]:
    """Seconds from the start of each process to its first answer. The first round warms the disk's cache."""
    found = {name: [] for name in rivals}
    for _ in range(options.rounds + 1):
        for name, server in rivals.items():
            began = time.monotonic()
            server.start()
            probabilities(server, options.name, options.contents[:1])
            found[name].append(time.monotonic() - began)
            server.end(signal.SIGKILL)
    return {name: seconds[1:] for name, seconds in found.items()}


def load(options: argparse.Namespace, rivals: dict[str, Server]) -> tuple[dict, dict]:
    """Images a second of each, for one client and for many, and the milliseconds of processor that each image took."""
    asked = [asking(options.name, content) for content in options.contents]
    found = {(name, clients): [] for name in rivals for clients in (1, CLIENTS)}
    used = {name: [] for name in rivals}
    for _ in range(options.rounds):
        for name, clients in found:
            began, busy = time.monotonic(), rivals[name].cpu()
            crowd = serving.crowd(rivals[name].port, lambda k: asked[k % len(asked)], clients, options.seconds)
            replies = [reply for reply in asyncio.run(crowd) if reply.status == 200]
            found[name, clients].append(len(replies) / (time.monotonic() - began))
            if clients == CLIENTS:
                used[name].append(1000 * (rivals[name].cpu() - busy) / max(1, len(replies)))
    return found, used


def as_png(content: bytes, side: int) -> bytes:
    """An image that no decoder has to resize or to round."""
    file = io.BytesIO()
    ImageOps.fit(Image.open(io.BytesIO(content)).convert("RGB"), (side, side)).save(file, "PNG")
    return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved_model", type=Path, required=True, help="a folder of versions")
    parser.add_argument("--exports", type=Path, required=True, help="a folder of versions of artefacts")
    parser.add_argument("--artefacts", default="onnx,litert", help="names of subfolders of a version")
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.name, options.contents = options.exports.resolve().name, serving.photographs(options.images)
    rivals = {TENSORFLOW: Server(options.saved_model.resolve())}
    rivals |= {one: Server(options.exports.resolve(), artefact=one) for one in options.artefacts.split(",")}
    seconds = start_up(options, rivals)
    with contextlib.ExitStack() as stack:
        for server in rivals.values():
            stack.enter_context(server)
        side = rivals[TENSORFLOW].metadata()["image_size"]
        same_pixels = [as_png(content, side) for content in options.contents[:32]]
        answers = {name: probabilities(server, options.name, same_pixels) for name, server in rivals.items()}
        jpegs = {name: probabilities(server, options.name, options.contents) for name, server in rivals.items()}
        before = {name: server.state()[0] for name, server in rivals.items()}
        speeds, used = load(options, rivals)
        after = {name: server.state()[0] for name, server in rivals.items()}
    titles = ("artefact", "start-up s", "MB", "MB after load", f"images/s, {CLIENTS} clients", "times TensorFlow's")
    heads(
        "JPEGs of 500x375",
        *titles,
        "1 client",
        "times TensorFlow's",
        "CPU ms an image",
        "answers differ by",
        "JPEGs by",
    )
    faults = []
    for name in rivals:
        gaps = [np.abs(one[name] - one[TENSORFLOW]).max() for one in (answers, jpegs)]
        ratios = {n: np.median(np.divide(speeds[name, n], speeds[TENSORFLOW, n])) for n in (1, CLIENTS)}
        cells = [f"{np.median(seconds[name]):.2f}", f"{before[name]:.0f}", f"{after[name]:.0f}"]
        for clients in (CLIENTS, 1):
            cells += [f"{np.median(speeds[name, clients]):.0f}", f"{ratios[clients]:.2f}"]
        cells.append(f"{np.median(used[name]):.1f}")
        say(name, *cells, *(f"{gap:.1e}" for gap in gaps))
        missed = {
            f"starts in {np.median(seconds[name]):.2f} s": np.median(seconds[name]) > MAX_SECONDS,
            f"needs {after[name]:.0f} MB": after[name] > MAX_MEGABYTES,
            f"has {ratios[CLIENTS]:.2f} of the images a second": ratios[CLIENTS] < 1,
            f"differs by {gaps[0]:.1e}": gaps[0] > TOLERANCE and "int8" not in name and "dynamic" not in name,
        }
        faults += [f"{name} {text}" for text, wrong in missed.items() if wrong and name != TENSORFLOW]
    print(f"\n{len(faults)} goals missed", *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
