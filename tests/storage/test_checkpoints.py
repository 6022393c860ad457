"""Two states in turn: what is read back is whole, and the newest that is."""

import numpy as np
import pytest

from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints

ARRAYS = {"a": [np.arange(3), np.ones((2, 2), np.float32)], "empty": [], "seed": [np.array([1, 2], np.uint32)]}


def test_a_state_comes_back(tmp_path):
    assert checkpoints.load(tmp_path) is None
    checkpoints.save(tmp_path, ARRAYS, {"epoch": 2, "name": "é"}, 0)
    arrays, notes, serial, _ = checkpoints.load(tmp_path)
    assert (notes, serial) == ({"epoch": 2, "name": "é"}, 0)
    assert arrays.keys() == ARRAYS.keys()
    for name, group in ARRAYS.items():
        for ours, theirs in zip(arrays[name], group, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_the_newest_is_read_and_the_one_before_is_kept(tmp_path):
    for serial in range(5):
        checkpoints.save(tmp_path, ARRAYS, {"step": serial}, serial)
    assert checkpoints.load(tmp_path)[1:3] == ({"step": 4}, 4)
    (tmp_path / checkpoints.FILE_NAMES[0]).unlink()
    assert checkpoints.load(tmp_path)[1:3] == ({"step": 3}, 3)
    checkpoints.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8])
def test_a_flipped_byte_is_noticed_and_the_state_before_taken(tmp_path, place):
    arrays = {"a": [np.random.default_rng(0).normal(size=2000).astype(np.float32)]}
    for serial in range(2):
        checkpoints.save(tmp_path, arrays, {"step": serial}, serial)
    path = tmp_path / checkpoints.FILE_NAMES[1]
    contents = bytearray(path.read_bytes())
    contents[int(place * (len(contents) - 1))] ^= 0xFF
    path.write_bytes(bytes(contents))
    assert checkpoints.load(tmp_path)[1:] == ({"step": 0}, 0, checkpoints.FILE_NAMES[1])


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_file_that_is_cut_short_is_passed_over(tmp_path, length):
    for serial in range(2):
        checkpoints.save(tmp_path, ARRAYS, {"step": serial}, serial)
    path = tmp_path / checkpoints.FILE_NAMES[1]
    path.write_bytes(path.read_bytes()[:length])
    assert checkpoints.load(tmp_path)[1] == {"step": 0}


def test_values_altered_under_a_valid_archive_are_noticed(tmp_path):
    checkpoints.save(tmp_path, ARRAYS, {"step": 0}, 0)
    path = tmp_path / checkpoints.FILE_NAMES[0]
    with np.load(path) as stored:
        flat = dict(stored)
    np.savez(path.with_suffix(""), **{**flat, "a/0": flat["a/0"] + 1})
    with pytest.raises(UserError, match=r"--run_dir: checkpoint-0.npz .* --noresume starts it again. Received"):
        checkpoints.load(tmp_path)


def test_the_older_of_two_can_go(tmp_path):
    checkpoints.keep_newest(tmp_path)
    for serial in range(3):
        checkpoints.save(tmp_path, ARRAYS, {"step": serial}, serial)
        checkpoints.keep_newest(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [checkpoints.FILE_NAMES[serial % 2]]
        assert checkpoints.load(tmp_path)[1] == {"step": serial}
