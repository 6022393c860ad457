"""The timing of a forward pass: what is passed, and that the tracing of the first batch is not counted."""

import numpy as np

from kerasft.training import forward_speed


def test_batches_of_images_are_timed_without_the_first(monkeypatch):
    moments = iter([0.0, 1.0, 3.0, 3.0, 4.0, 4.0, 9.0])
    monkeypatch.setattr(forward_speed.time, "monotonic", lambda: next(moments))
    seen = []
    assert forward_speed.measure(lambda batches: seen.extend(batches), 8, 0.5) == forward_speed.BATCH_SIZE / 1.0
    assert len(seen) == 1 + forward_speed.MIN_BATCHES
    assert {batch.shape for batch in seen} == {(forward_speed.BATCH_SIZE, 8, 8, 3)}
    assert seen[0].dtype == np.float32
    assert seen[0].max() > 200
