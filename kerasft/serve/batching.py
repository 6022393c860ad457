"""Dynamic batching: concurrent requests share batches of the model. There is one queue and one thread.

Requests gather in the queue while the model computes. When the model is free and the queue is short, the batcher waits for
as many images as the last batch had, but at most `limits.max_delay_seconds`. Clients that each wait for their answer send
their next requests together, so they share a batch again. A single client never waits for others.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kerasft.predict.predictions import last_line
from kerasft.serve import metrics
from kerasft.serve.limits import Limits, RequestError

# A signature of a model: from N instances to outputs [N, ...].
Model = Callable[[list], dict[str, np.ndarray]]
Outcome = dict[str, np.ndarray] | Exception


class Job(NamedTuple):
    """Instances of one request for one model, at most `limits.max_batch_size` of them."""

    model: Model
    instances: list
    future: asyncio.Future


class Batcher:
    """The queue in front of the model. `run` is the task that empties it.

    Args:
        limits: `max_batch_size`, `max_delay_seconds` and `max_images` (in the queue) are used.
        input_error: the error that the model raises for an invalid instance.
    """

    def __init__(self, limits: Limits, input_error: type[Exception]):
        self.limits, self.input_error = limits, input_error
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._new_jobs = asyncio.Event()
        self._last_batch_size = 1

    async def predict(self, model: Model, instances: list) -> dict[str, np.ndarray]:
        """Returns the outputs of the model for instances, [N, ...] by name. Instances that fit into one batch share one.

        Raises:
            RequestError: the queue is full.
            InvalidInstance: the model does not accept an instance.
        """
        if self._waiting + len(instances) > self.limits.max_images:
            text = f"{self._waiting} images are waiting; at most {self.limits.max_images} may wait (--max_queue). Try again."
            raise RequestError(429, text, {"Retry-After": "1"})
        size = self.limits.max_batch_size
        loop = asyncio.get_running_loop()
        jobs = [
            Job(model, instances[start : start + size], loop.create_future())
            for start in range(0, len(instances), size)
        ]
        self._jobs.extend(jobs)
        self._add_to_queue_length(len(instances))
        self._new_jobs.set()
        outcomes = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        for start, one in zip(range(0, len(instances), size), outcomes):
            if isinstance(one, InvalidInstance):
                raise InvalidInstance(start + one.index, one.reason)
            if isinstance(one, BaseException):
                raise one
        if len(outcomes) == 1:
            return outcomes[0]
        return {name: np.concatenate([one[name] for one in outcomes]) for name in outcomes[0]}

    async def run(self) -> None:
        """Computes one batch after the other in a thread of its own until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "model") as thread:
            while True:
                jobs = await self._gather()
                running = loop.run_in_executor(thread, _run_batch, jobs, self.input_error)
                await asyncio.wait([running])
                # An error of the model itself goes to every request of the batch. The thread goes on.
                error = running.exception()
                for job, outcome in zip(jobs, [error] * len(jobs) if error else running.result()):
                    # The request was cancelled in the meantime.
                    if job.future.done():
                        continue
                    if isinstance(outcome, Exception):
                        job.future.set_exception(outcome)
                    else:
                        job.future.set_result(outcome)

    async def _gather(self) -> list[Job]:
        """Waits for the next batch: jobs of one model in the order of their arrival."""
        while not self._jobs:
            self._new_jobs.clear()
            await self._new_jobs.wait()
        deadline = time.monotonic() + self.limits.max_delay_seconds
        while self._waiting < self._last_batch_size and (left := deadline - time.monotonic()) > 0:
            self._new_jobs.clear()
            try:
                await asyncio.wait_for(self._new_jobs.wait(), left)
            except TimeoutError:
                break
        jobs, size = [], 0
        while self._jobs and size + len(self._jobs[0].instances) <= self.limits.max_batch_size:
            if jobs and self._jobs[0].model is not jobs[0].model:
                break
            job = self._jobs.popleft()
            self._add_to_queue_length(-len(job.instances))
            if not job.future.done():
                jobs.append(job)
                size += len(job.instances)
        self._last_batch_size = max(1, size)
        return jobs

    def _add_to_queue_length(self, change: int) -> None:
        self._waiting += change
        metrics.QUEUE_LENGTH.set(self._waiting)


class InvalidInstance(Exception):
    """An instance that the model does not accept. The other instances of its batch get their outputs.

    Attributes:
        index: of the instance in its request.
        reason: from the error of the model.
    """

    def __init__(self, index: int, reason: str):
        super().__init__(reason)
        self.index, self.reason = index, reason


def _run_batch(jobs: list[Job], input_error: type[Exception]) -> list[Outcome]:
    """Returns the outcome of each job. Jobs of a batch that fails are computed one by one, then their instances."""
    if not jobs:
        return []
    began = time.monotonic()
    outcomes = _predict_jobs(jobs, input_error)
    metrics.BATCHES.observe(sum(len(job.instances) for job in jobs))
    metrics.MODEL_SECONDS.observe(time.monotonic() - began)
    return outcomes


def _predict_jobs(jobs: list[Job], input_error: type[Exception]) -> list[Outcome]:
    try:
        outputs = jobs[0].model([instance for job in jobs for instance in job.instances])
    except input_error as error:
        if len(jobs) == 1:
            return [_find_invalid_instance(jobs[0], error, input_error)]
        return [_predict_jobs([job], input_error)[0] for job in jobs]
    metrics.IMAGES.inc(sum(len(job.instances) for job in jobs))
    outcomes, start = [], 0
    for job in jobs:
        outcomes.append({name: value[start : start + len(job.instances)] for name, value in outputs.items()})
        start += len(job.instances)
    return outcomes


def _find_invalid_instance(job: Job, error: Exception, input_error: type[Exception]) -> Exception:
    """Returns the error of the first instance that fails alone, or `error` if none does."""
    for index, instance in enumerate(job.instances):
        try:
            job.model([instance])
        except input_error as own_error:
            return InvalidInstance(index, last_line(str(own_error)))
    return error
