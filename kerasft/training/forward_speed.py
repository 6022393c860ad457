"""How fast a network answers on this machine."""

import time

import numpy as np

from kerasft.evaluation.scoring import Predictor

# Images in a timed batch.
BATCH_SIZE = 32
# Batches that are timed, however long they take.
MIN_BATCHES = 2


def measure(predict: Predictor, size: int, seconds: float, batch_size: int = BATCH_SIZE) -> float:
    """Returns the images per second of a forward pass, measured on random images. The fastest batch counts.

    Args:
        predict: what `scoring.make_predictor` gave. Its first batch, for which it is traced, is not timed.
        size: side of the images in pixels.
        seconds: for which batches are timed.
        batch_size: images in a batch.
    """
    rng = np.random.default_rng(0)
    batch = rng.uniform(0, 255, (batch_size, size, size, 3)).astype(np.float32)
    predict([batch])
    times, began = [], time.monotonic()
    while len(times) < MIN_BATCHES or time.monotonic() - began < seconds:
        started = time.monotonic()
        predict([batch])
        times.append(time.monotonic() - started)
    return batch_size / min(times)
