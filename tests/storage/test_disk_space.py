"""Too small a disk is told before training."""

import pytest

from kerasft.settings import failures
from kerasft.settings.errors import UserError
from kerasft.storage import disk_space


def test_a_disk_that_is_too_small_is_told_with_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "free_bytes", lambda path: 100e6)
    assert 0 < disk_space.check_free_space(10**6, tmp_path / "r", tmp_path / "e") < 100e6
    with pytest.raises(UserError, match=r"--run_dir: .* writes about 1\.9 GB, and its disk has 100 MB; free some"):
        disk_space.check_free_space(10**8, tmp_path / "r", tmp_path / "e")


def test_each_disk_is_asked_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "_device", lambda path: path.name)
    monkeypatch.setattr(failures, "free_bytes", lambda path: 100e6 if path.name == "e" else 1e12)
    with pytest.raises(UserError, match=r"--export_dir: .* writes about 232 MB"):
        disk_space.check_free_space(10**8, tmp_path / "r", tmp_path / "e")
