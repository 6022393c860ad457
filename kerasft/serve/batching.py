"""Requests that come together are answered together: one queue, one thread, batches as large as they come.

While the model works, requests gather by themselves. When it is free and only few are there, it waits for as many as there
were last time, but no longer than `limits.delay`: many callers who each wait for their answer come back together, and a
lone one never waits for anybody.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kerasft.serve import metrics
from kerasft.serve.limits import Limits, Refusal

Model = Callable[[list], dict[str, np.ndarray]]  # N rows to outputs [N, ...]
Given = dict[str, np.ndarray] | Exception


class Job(NamedTuple):
    """Rows of one request, at most a batch of them, that one model answers."""

    model: Model
    rows: list
    done: asyncio.Future


class Batcher:
    """The queue before the model; `work` is the task that empties it.

    Args:
        limits: `batch`, `delay` and `pictures` (in the queue).
        broken: kinds of errors that the rows of a batch are to blame for, rather than the model.
    """

    def __init__(self, limits: Limits, broken: type[Exception]):
        self.limits, self.broken = limits, broken
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._came = asyncio.Event()
        self._expected = 1

    async def answer(self, model: Model, rows: list) -> dict[str, np.ndarray]:
        """What the model says of rows; they are in one batch where they fit into one.

        Raises:
            Refusal: the queue is full, or a row is broken: `rows[i]`, as the message says.
        """
        if self._waiting + len(rows) > self.limits.pictures:
            text = f"{self._waiting} pictures are waiting, at most {self.limits.pictures} may (--max_queue); try again."
            raise Refusal(429, text, {"Retry-After": "1"})
        size = self.limits.batch
        loop = asyncio.get_running_loop()
        jobs = [Job(model, rows[start : start + size], loop.create_future()) for start in range(0, len(rows), size)]
        self._jobs.extend(jobs)
        self._count(len(rows))
        self._came.set()
        given = await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)
        for start, one in zip(range(0, len(rows), size), given):
            if isinstance(one, BadRow):
                raise BadRow(start + one.row, one.why)
            if isinstance(one, BaseException):
                raise one
        return given[0] if len(given) == 1 else {k: np.concatenate([one[k] for one in given]) for k in given[0]}

    async def work(self) -> None:
        """Answers batch after batch, in a thread of its own, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                jobs = await self._gather()
                running = loop.run_in_executor(thread, _run, jobs, self.broken)
                await asyncio.wait([running])
                error = running.exception()  # of the model, not of a picture: told to all, and the thread goes on
                for job, given in zip(jobs, [error] * len(jobs) if error else running.result()):
                    if job.done.done():  # its request was given up in the meantime
                        continue
                    if isinstance(given, Exception):
                        job.done.set_exception(given)
                    else:
                        job.done.set_result(given)

    async def _gather(self) -> list[Job]:
        """The next batch: jobs of one model, in the order they came."""
        while not self._jobs:
            self._came.clear()
            await self._came.wait()
        until = time.monotonic() + self.limits.delay
        while self._waiting < self._expected and (left := until - time.monotonic()) > 0:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except TimeoutError:
                break
        jobs, size = [], 0
        while self._jobs and size + len(self._jobs[0].rows) <= self.limits.batch:
            if jobs and self._jobs[0].model is not jobs[0].model:
                break
            job = self._jobs.popleft()
            self._count(-len(job.rows))
            if not job.done.done():
                jobs.append(job)
                size += len(job.rows)
        self._expected = max(1, size)
        return jobs

    def _count(self, change: int) -> None:
        self._waiting += change
        metrics.WAITING.set(self._waiting)


class BadRow(Exception):
    """A row that the model cannot take, though its batch-mates were answered."""

    def __init__(self, row: int, why: str):
        super().__init__(why)
        self.row, self.why = row, why


def _run(jobs: list[Job], broken: type[Exception]) -> list[Given]:
    """Answers by job; where the batch fails, each job alone, and where that fails, each row."""
    if not jobs:
        return []
    began = time.monotonic()
    given = _attempt(jobs, broken)
    metrics.BATCHES.observe(sum(len(job.rows) for job in jobs))
    metrics.MODEL_SECONDS.observe(time.monotonic() - began)
    return given


def _attempt(jobs: list[Job], broken: type[Exception]) -> list[Given]:
    try:
        outputs = jobs[0].model([row for job in jobs for row in job.rows])
    except broken as error:
        return [_blame(jobs[0], error, broken)] if len(jobs) == 1 else [_attempt([job], broken)[0] for job in jobs]
    metrics.PICTURES.inc(sum(len(job.rows) for job in jobs))
    given, start = [], 0
    for job in jobs:
        given.append({name: value[start : start + len(job.rows)] for name, value in outputs.items()})
        start += len(job.rows)
    return given


def _blame(job: Job, error: Exception, broken: type[Exception]) -> Exception:
    """The first row that fails alone."""
    for index, row in enumerate(job.rows):
        try:
            job.model([row])
        except broken as found:
            return BadRow(index, _why(found))
    return error


def _why(error: Exception) -> str:
    """The last line of TensorFlow's message that is not about the graph."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith("[[")]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:200]
