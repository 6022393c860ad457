"""`delta.npz`: few numbers for few changes, the same weights again, and no other network beneath."""

import numpy as np
import pytest

from kerasft.settings.errors import UserError
from kerasft.storage import weight_delta

RNG = np.random.default_rng(0)
BEFORE = [RNG.normal(0, 0.1, shape).astype(np.float32) for shape in ((3, 3, 32, 64), (64,), (64, 256), (256,))]


def test_a_low_rank_change_is_stored_as_its_factors(tmp_path):
    kernel = BEFORE[0] + np.float32(2) * (RNG.normal(0, 0.1, (3, 3, 32, 4)) @ RNG.normal(0, 0.1, (4, 64)))
    after = [kernel.astype(np.float32), BEFORE[1] + 1, BEFORE[2], BEFORE[3]]
    fraction = weight_delta.write(tmp_path, BEFORE, after)
    # Rank 4 of a 288 x 64 matrix, and the 64 offsets.
    assert fraction == pytest.approx((4 * (288 + 64) + 64) / sum(one.size for one in BEFORE))
    found = weight_delta.apply(tmp_path / "delta.npz", BEFORE)
    np.testing.assert_allclose(found[0], after[0], rtol=0, atol=1e-5)
    for ours, theirs in zip(found[1:], after[1:]):
        np.testing.assert_array_equal(ours, theirs)


def test_a_change_of_everything_is_not_written(tmp_path):
    after = [one + RNG.normal(0, 0.01, one.shape).astype(np.float32) for one in BEFORE]
    assert weight_delta.write(tmp_path, BEFORE, after) is None
    assert not list(tmp_path.iterdir())


def test_another_network_beneath_and_a_damaged_file_are_refused(tmp_path):
    weight_delta.write(tmp_path, BEFORE, [*BEFORE[:3], BEFORE[3] * 2])
    with pytest.raises(UserError, match="was made from other weights"):
        weight_delta.apply(tmp_path / "delta.npz", [BEFORE[0] * 2, *BEFORE[1:]])
    (tmp_path / "delta.npz").write_bytes((tmp_path / "delta.npz").read_bytes()[:100])
    with pytest.raises(UserError, match=r"delta\.npz: cannot be read"):
        weight_delta.apply(tmp_path / "delta.npz", BEFORE)
