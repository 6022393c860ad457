"""Shares that an optimizer raises: with steps, not with calls, and to 1 exactly."""

import keras
import numpy as np
import pytest

from kerasft.optimization.blending_optimizer import raise_with_steps


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_shares_go_to_one_in_their_steps(micro_batches):
    accumulated = micro_batches if micro_batches > 1 else None
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=accumulated)
    weight, shares = keras.Variable(np.ones(2, "float32")), [keras.Variable(0.0) for _ in range(3)]
    optimizer.build([weight])
    # The third one has come from a checkpoint.
    shares[2].assign(0.5)
    raise_with_steps(optimizer, [(shares[0], 7), (shares[1], 2), (shares[2], 4)], micro_batches)
    seen = []
    for _ in range(8):
        for _ in range(micro_batches):
            optimizer.apply([np.ones(2, "float32")])
        seen.append([float(share) for share in shares])
    np.testing.assert_allclose([row[0] for row in seen], [*(step / 7 for step in range(1, 8)), 1], rtol=1e-5)
    assert [row[1] for row in seen[:3]] == [pytest.approx(0.5), 1, 1]
    assert [row[2] for row in seen[:3]] == [pytest.approx(0.75), 1, 1]
    assert seen[6][0] == seen[7][0] == 1
    # The optimizer does what it did.
    np.testing.assert_allclose(weight, 1 - 0.5 * 8, rtol=1e-6)
