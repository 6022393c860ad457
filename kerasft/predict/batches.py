"""From file names to answers: read ahead, several batches under way, in order, and no picture fails another."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.pool import AsyncResult, ThreadPool

from kerasft.predict.predictions import Model, Prediction, RefusedBatch
from kerasft.predict.sources import Pictures

BATCH_SIZE = 32
_LAST_WAIT = 5  # seconds for what is under way when the rest is given up; a server may be silent for longer


def scored(model: Model, pictures: Pictures, batches: Iterable[list[str]]) -> Iterator[list[Prediction]]:
    """What is said of each batch of names, in order.

    Each batch is read and answered in a thread of its own; `model.concurrency` bounds how many, and so the memory. The
    threads are daemons: at the end of the program nobody waits for a server.
    """
    concurrency: deque[AsyncResult] = deque()
    with ThreadPool(model.concurrency) as pool:
        try:
            for names in batches:
                concurrency.append(pool.apply_async(_batch, (model, pictures, names)))
                if len(concurrency) == model.concurrency:
                    yield concurrency[0].get()
                    concurrency.popleft()
            while concurrency:
                yield concurrency[0].get()
                concurrency.popleft()
        finally:
            until = time.monotonic() + _LAST_WAIT
            for result in concurrency:
                result.wait(max(0, until - time.monotonic()))


def _batch(model: Model, pictures: Pictures, names: list[str]) -> list[Prediction]:
    rows: list[Prediction | None] = []
    contents = []
    for name in names:
        try:
            contents.append(pictures.read(name))
            rows.append(None)
        except (OSError, ValueError) as error:
            rows.append(Prediction(error=getattr(error, "strerror", None) or str(error)))
    answers = iter(_apart(model, contents))
    return [next(answers) if row is None else row for row in rows]


def _apart(model: Model, contents: list[bytes]) -> list[Prediction]:
    """Answers for all; where some are refused, each half for itself, until only those that are bad stand alone."""
    if not contents:
        return []
    try:
        return model.answer(contents)
    except RefusedBatch as error:
        if len(contents) == 1:
            return [Prediction(error=str(error))]
    half = len(contents) // 2
    return _apart(model, contents[:half]) + _apart(model, contents[half:])
