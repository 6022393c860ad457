"""The folder source: given splits, and names of every kind."""

import shutil

import pytest
from conftest import audited, carved, write

from kerasft.data.listing import SPLITS
from kerasft.errors import UserError


def test_given_splits_are_kept(split_folder):
    data = carved(f"folder:{split_folder}")
    assert {part: sum(data.counts()[part].values()) for part in SPLITS} == {"train": 12, "val": 4, "test": 6}
    assert all(name.startswith("test/") for name in data.test.ids)


def test_nested_folders_and_odd_names(tmp_path):
    names = {
        "ü 猫/ñ, 1.png",
        "ü 猫/deep/er/x.PNG",
        "-dash/-x.png",
        "-dash/two  words.png",
        "a,b/;.png",
        "a,b/no_suffix",
    }
    for index, name in enumerate(sorted(names)):
        path = tmp_path / "odd set" / name
        write(path.with_suffix(".png"), seed=index)
        path.with_suffix(".png").rename(path)
    checked, _ = audited(f"folder:{tmp_path / 'odd set'}")
    assert set(checked.ids) == names
    assert (checked.name, checked.task) == ("odd set", "single_label")
    assert checked.classes == ("-dash", "a,b", "ü 猫")
    assert checked.findings == ()


def test_hidden_and_system_files_are_passed_over(split_folder):
    before = audited(f"folder:{split_folder}")[0].ids.tolist()
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (split_folder / "train" / "disc" / name).write_bytes(b"x")
    for folder in ("train/disc/.thumbnails", "train/.git", ".cache"):
        write(split_folder / folder / "0.png")
    checked, _ = audited(f"folder:{split_folder}")
    assert checked.ids.tolist() == before
    assert {finding.kind for finding in checked.findings} == {"system_file"}


def test_val_or_test_without_train_is_no_set_of_classes(split_folder):
    shutil.move(split_folder / "train", split_folder.parent / "away")
    with pytest.raises(UserError, match=r"--data: test/, val/ without train/; put the class folders .* into train/"):
        audited(f"folder:{split_folder}")
    shutil.move(split_folder.parent / "away" / "disc", split_folder / "disc")
    with pytest.raises(UserError, match="without train/"):
        audited(f"folder:{split_folder}")


def test_classes_may_be_called_like_splits(tmp_path):
    for name in ("test", "control"):
        write(tmp_path / "set" / name / "0.png")
    assert audited(f"folder:{tmp_path / 'set'}")[0].classes == ("control", "test")


def test_too_few_pictures_are_told_with_how_many_are_needed(tmp_path):
    for index, name in enumerate(("a", "b")):
        write(tmp_path / "set" / name / "0.png", seed=index)
    with pytest.raises(UserError, match="a class needs at least three different pictures, one for each of train, val"):
        carved(f"folder:{tmp_path / 'set'}")
