"""A process that holds one model, so that its start-up and its memory are its own: `python -m kerasft.runtimes.worker FOLDER`.

It prints `ready` once the model has answered. A line `COUNT SECONDS` on standard input makes it answer to batches of COUNT
images for so long, and print the images a second. At the end of its input it prints the largest memory that it had, in bytes.
"""

import sys
import time
from pathlib import Path

import numpy as np

from kerasft import runtimes
from kerasft.runtimes.model import Signature
from kerasft.settings import machine

READY = "ready"


def main(folder: str) -> None:
    """Loads a model and does what standard input says."""
    model = runtimes.load(Path(folder))
    print(READY, flush=True)
    for line in sys.stdin:
        count, seconds = line.split()
        print(images_per_second(model.signatures["images"], int(count), float(seconds)), flush=True)
    print(machine.peak_bytes(), flush=True)


def images_per_second(signature: Signature, count: int, seconds: float) -> float:
    """Returns the images a second of calls with so many images. Nothing is decoded. The first call is not counted."""
    pixels = np.random.default_rng(0).uniform(0, 255, (count, *signature.spec.shape[1:])).astype(np.float32)
    batch, done = list(pixels), 0
    signature.call(batch)
    began = time.perf_counter()
    while not done or time.perf_counter() - began < seconds:
        signature.call(batch)
        done += count
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
