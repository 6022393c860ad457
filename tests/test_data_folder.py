"""The folder source: given splits, and names of every kind."""

from conftest import carved

from kerasft.data.listing import SPLITS


def test_given_splits_are_kept(split_folder):
    data = carved(f"folder:{split_folder}")
    assert {part: sum(data.counts()[part].values()) for part in SPLITS} == {"train": 12, "val": 4, "test": 6}
    assert all(name.startswith("test/") for name in data.test.ids)
