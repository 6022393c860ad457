"""Splits: stratified, seeded, without overlap, for labels of every form."""

import shutil

import pytest
from conftest import carved

from kerasft.data.listing import SPLITS
from kerasft.errors import UserError


def _ids(split):
    return set(split.ids.tolist())


def test_classes_only_are_split_stratified_seeded_and_without_overlap(photos):
    first, again, other = (carved(f"folder:{photos}", seed) for seed in (0, 0, 1))
    assert first.counts() == {part: {"disc": n, "square": n} for part, n in (("train", 14), ("val", 4), ("test", 6))}
    assert _ids(first.train) | _ids(first.val) | _ids(first.test) == {
        f"{k}/{i:02d}.jpg" for k in ("disc", "square") for i in range(24)
    }
    assert not _ids(first.train) & _ids(first.val)
    assert not (_ids(first.train) | _ids(first.val)) & _ids(first.test)
    for part in SPLITS:
        assert getattr(first, part).ids.tolist() == getattr(again, part).ids.tolist()
    assert _ids(first.test) != _ids(other.test)
    assert (first.digest == again.digest, first.digest == other.digest) == (True, False)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_carved_from_train(split_folder, missing):
    shutil.rmtree(split_folder / missing)
    data = carved(f"folder:{split_folder}")
    assert all(name.startswith("train/") for name in getattr(data, missing).ids)
    assert data.counts()[missing] == {"disc": 2, "square": 2}
    assert data.counts()["train"] == {"disc": 4, "square": 4}


def test_a_new_file_moves_few_others_and_copies_stay_together(photos, tmp_path):
    root = tmp_path / "more"
    shutil.copytree(photos, root)
    for index in range(12):
        shutil.copy(root / "disc" / f"{index:02d}.jpg", root / "disc" / f"copy{index}.jpg")
    before, after = carved(f"folder:{photos}"), carved(f"folder:{root}")
    assert len(_ids(before.test) & _ids(after.test)) >= len(before.test) - 3
    for index in range(12):
        places = [
            part for part in SPLITS if _ids(getattr(after, part)) & {f"disc/copy{index}.jpg", f"disc/{index:02d}.jpg"}
        ]
        assert len(places) == 1


def test_a_class_without_a_readable_training_picture_is_refused(split_folder):
    for path in (split_folder / "train" / "disc").iterdir():
        path.write_bytes(b"spoiled")
    with pytest.raises(UserError, match="class 'disc' has no training picture that can be read"):
        carved(f"folder:{split_folder}")
