"""Too small a disk is told before training."""

import pytest

from kerasft.settings import failures
from kerasft.settings.errors import UserError
from kerasft.storage import disk_space


def test_a_disk_that_is_too_small_is_told_with_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "free_bytes", lambda path: 100e6)
    assert 0 < disk_space.check_free_space(10**6, tmp_path / "r", tmp_path / "e", phases=3) < 100e6
    with pytest.raises(UserError, match=r"--run_dir: .* writes about 1\.9 GB, and its disk has 100 MB; free some"):
        disk_space.check_free_space(10**8, tmp_path / "r", tmp_path / "e", phases=3)


def test_each_disk_is_asked_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "_device", lambda path: path.name)
    monkeypatch.setattr(failures, "free_bytes", lambda path: 100e6 if path.name == "e" else 1e12)
    with pytest.raises(UserError, match=r"--export_dir: .* writes about 232 MB"):
        disk_space.check_free_space(10**8, tmp_path / "r", tmp_path / "e", phases=3)


def test_a_run_that_goes_on_needs_no_space_for_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "free_bytes", lambda path: 100e6)
    given = {"phases": 3, "cache": tmp_path / "r" / "cache"}
    whole = disk_space.check_free_space(10**6, tmp_path / "r", tmp_path / "e", **given)
    monkeypatch.setattr(failures, "free_bytes", lambda path: whole - 20e6)
    (tmp_path / "r" / "cache").mkdir(parents=True)
    # The cache is no part of what was counted.
    (tmp_path / "r" / "cache" / "rows").write_bytes(bytes(30_000_000))
    with pytest.raises(UserError, match="free some"):
        disk_space.check_free_space(10**6, tmp_path / "r", tmp_path / "e", **given)
    (tmp_path / "r" / "checkpoint-0.npz").write_bytes(bytes(30_000_000))
    assert disk_space.check_free_space(10**6, tmp_path / "r", tmp_path / "e", **given) == whole


def test_each_phase_leaves_a_copy_of_the_weights(tmp_path):
    few, many = (disk_space.check_free_space(10**6, tmp_path, tmp_path, phases=count) for count in (1, 9))
    assert many - few == 8 * 10**6
