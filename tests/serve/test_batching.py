"""The queue: what comes together is answered together, one bad row fails alone, and nothing waits for nothing."""

import asyncio
import threading
import time

import numpy as np
import pytest

pytest.importorskip("prometheus_client")
from kerasft.serve.batching import Batcher, InvalidInstance
from kerasft.serve.limits import Limits, RequestError

LIMITS = Limits(
    max_body_bytes=1000, max_pixels=1000, max_images=20, max_batch_size=4, max_delay_seconds=0.3, timeout_seconds=5
)


class Broken(Exception):
    pass


class Recorder:
    """A model that doubles its rows; it notes its batches, fails where a row is None, and can be held."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()
        self.go.set()

    def __call__(self, rows: list) -> dict[str, np.ndarray]:
        self.batches.append(list(rows))
        self.go.wait(5)
        if None in rows:
            raise Broken("bad\n\t [[node]]")
        if "wrong" in rows:
            raise KeyError("of the model")
        return {"twice": 2 * np.array(rows)}


def played(story, limits: Limits = LIMITS):
    """Runs a story against a batcher that works."""

    async def main():
        batcher, model = Batcher(limits, Broken), Recorder()
        working = asyncio.create_task(batcher.run())
        try:
            return await story(batcher, model)
        finally:
            model.go.set()
            working.cancel()

    return asyncio.run(main())


def numbers(given) -> list:
    return given["twice"].tolist()


def test_a_lone_request_waits_for_nobody():
    async def story(batcher, model):
        began = time.monotonic()
        assert numbers(await batcher.predict(model, [1])) == [2]
        assert numbers(await batcher.predict(model, [2])) == [4]
        return time.monotonic() - began

    assert played(story) < LIMITS.max_delay_seconds / 2


def test_what_comes_while_the_model_works_is_one_batch():
    async def story(batcher, model):
        model.go.clear()
        first = asyncio.create_task(batcher.predict(model, [1]))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.predict(model, [k])) for k in (2, 3, 4)]
        await asyncio.sleep(0.05)
        model.go.set()
        assert [numbers(one) for one in await asyncio.gather(first, *rest)] == [[2], [4], [6], [8]]
        return model.batches

    assert played(story) == [[1], [2, 3, 4]]


def test_after_a_large_batch_it_waits_for_as_many_but_no_longer_than_the_delay():
    async def story(batcher, model):
        await asyncio.gather(*(batcher.predict(model, [k]) for k in range(3)))
        model.batches.clear()
        began = time.monotonic()
        await batcher.predict(model, [1])
        alone = time.monotonic() - began
        await asyncio.gather(*(batcher.predict(model, [k]) for k in range(4)))
        model.batches.clear()

        async def late(k):
            await asyncio.sleep(0.02 * k)
            return await batcher.predict(model, [k])

        await asyncio.gather(*(late(k) for k in range(4)))
        return alone, model.batches

    alone, batches = played(story)
    assert LIMITS.max_delay_seconds <= alone < 3 * LIMITS.max_delay_seconds
    assert batches == [[0, 1, 2, 3]]


def test_a_request_is_never_parted_where_it_fits_into_a_batch():
    async def story(batcher, model):
        model.go.clear()
        tasks = [asyncio.create_task(batcher.predict(model, rows)) for rows in ([0], [1, 2, 3], [4, 5], list(range(9)))]
        await asyncio.sleep(0.05)
        model.go.set()
        return [numbers(one) for one in await asyncio.gather(*tasks)], model.batches

    answers, batches = played(story)
    assert answers == [[0], [2, 4, 6], [8, 10], [2 * k for k in range(9)]]
    assert batches[1:] == [[1, 2, 3], [4, 5], [0, 1, 2, 3], [4, 5, 6, 7], [8]] or batches == [
        [0, 1, 2, 3],
        [4, 5],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8],
    ]


def test_a_bad_row_fails_its_request_only_and_is_named():
    async def story(batcher, model):
        tasks = (batcher.predict(model, rows) for rows in ([1], [2, None], [3]))
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, bad, three = played(story)
    assert (numbers(one), numbers(three)) == ([2], [6])
    assert isinstance(bad, InvalidInstance)
    assert (bad.index, bad.reason) == (1, "bad")


def test_a_bad_row_is_counted_from_the_start_of_its_request():
    async def story(batcher, model):
        with pytest.raises(InvalidInstance) as caught:
            await batcher.predict(model, [1, 2, 3, 4, 5, None])
        return caught.value.index

    assert played(story) == 5


def test_a_fault_of_the_model_reaches_its_requests_and_the_next_are_answered():
    async def story(batcher, model):
        with pytest.raises(KeyError, match="of the model"):
            await batcher.predict(model, ["wrong"])
        return numbers(await batcher.predict(model, [7]))

    assert played(story) == [14]


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def story(batcher, model):
        model.go.clear()
        first = asyncio.create_task(batcher.predict(model, [0]))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.predict(model, [1] * 20))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="20 images are waiting; at most 20 may wait") as caught:
            await batcher.predict(model, [2])
        model.go.set()
        await asyncio.gather(first, waiting)
        assert numbers(await batcher.predict(model, [3] * 20)) == [6] * 20
        return caught.value

    refusal = played(story)
    assert (refusal.status, refusal.headers) == (429, {"Retry-After": "1"})


def test_a_request_that_is_given_up_takes_no_time_of_the_model():
    async def story(batcher, model):
        model.go.clear()
        first = asyncio.create_task(batcher.predict(model, [0]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.predict(model, [1] * 4))
        stays = asyncio.create_task(batcher.predict(model, [2]))
        await asyncio.sleep(0.05)
        gone.cancel()
        model.go.set()
        assert numbers(await stays) == [4]
        await first
        return model.batches

    assert played(story) == [[0], [2]]


def test_two_models_never_share_a_batch():
    async def story(batcher, model):
        other = Recorder()
        await asyncio.gather(batcher.predict(model, [1]), batcher.predict(other, [2]), batcher.predict(model, [3]))
        return model.batches, other.batches

    assert played(story) == ([[1], [3]], [[2]])
