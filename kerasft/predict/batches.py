"""From file names to predictions: several batches at a time, results in order, and no image fails another."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.pool import AsyncResult, ThreadPool

from kerasft.predict.predictions import Model, Prediction, RefusedBatch
from kerasft.predict.sources import ImageFiles

BATCH_SIZE = 32
# After an error, batches that are being computed get so many seconds to finish. A server may take longer.
_SHUTDOWN_WAIT_SECONDS = 5


def predict_batches(model: Model, images: ImageFiles, batches: Iterable[list[str]]) -> Iterator[list[Prediction]]:
    """Yields the predictions of each batch of file names, in order.

    Each batch is read and predicted in a thread of its own. `model.concurrency` bounds the number of threads, and so the
    memory. The threads are daemons, so the program does not wait for a server when it ends.
    """
    pending: deque[AsyncResult] = deque()
    with ThreadPool(model.concurrency) as pool:
        try:
            for names in batches:
                pending.append(pool.apply_async(_predict_batch, (model, images, names)))
                if len(pending) == model.concurrency:
                    yield pending[0].get()
                    pending.popleft()
            while pending:
                yield pending[0].get()
                pending.popleft()
        finally:
            deadline = time.monotonic() + _SHUTDOWN_WAIT_SECONDS
            for result in pending:
                result.wait(max(0, deadline - time.monotonic()))


def _predict_batch(model: Model, images: ImageFiles, names: list[str]) -> list[Prediction]:
    rows: list[Prediction | None] = []
    contents = []
    for name in names:
        try:
            contents.append(images.read(name))
            rows.append(None)
        except (OSError, ValueError) as error:
            rows.append(Prediction(error=getattr(error, "strerror", None) or str(error)))
    predictions = iter(_predict_or_bisect(model, contents))
    return [next(predictions) if row is None else row for row in rows]


def _predict_or_bisect(model: Model, contents: list[bytes]) -> list[Prediction]:
    """Predicts all images. A refused batch is halved until each image that the model refuses is alone."""
    if not contents:
        return []
    try:
        return model.predict(contents)
    except RefusedBatch as error:
        if len(contents) == 1:
            return [Prediction(error=str(error))]
    half = len(contents) // 2
    return _predict_or_bisect(model, contents[:half]) + _predict_or_bisect(model, contents[half:])
