"""The folder source: given splits, and names of every kind."""

import os
import shutil
import socket

import pytest
from conftest import audited, splits_of, write

from kerasft.data import listing as listings
from kerasft.data import sources
from kerasft.data.listing import SPLITS
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def test_given_splits_are_kept(split_folder):
    data = splits_of(f"folder:{split_folder}")
    assert {part: sum(data.counts()[part].values()) for part in SPLITS} == {"train": 12, "val": 4, "test": 6}
    assert all(name.startswith("test/") for name in data.test.ids)


def test_a_test_folder_of_another_name_is_not_drawn_from_train(split_folder):
    (split_folder / "test").rename(split_folder / "Testing")
    assert sum(splits_of(f"folder:{split_folder}").counts()["test"].values()) == 6
    (split_folder / "Testing").rename(split_folder / "held")
    with pytest.raises(
        UserError, match="--data: held/ holds class folders and is no split; call it train, val or test"
    ):
        sources.load(Config(data=f"folder:{split_folder}"))
    shutil.copytree(split_folder / "held", split_folder / "test")
    assert [one.kind for one in sources.load(Config(data=f"folder:{split_folder}")).findings] == ["unknown_folder"]


@pytest.mark.parametrize("kind", ["empty", "loose", "other_case", "heic"])
def test_a_test_folder_of_which_nothing_can_be_used_is_not_drawn_from_train(split_folder, kind):
    test, left_out = split_folder / "test", "; in all, 6 files cannot be used (see audit.json)"
    if kind == "empty":
        shutil.rmtree(test)
        test.mkdir()
        left_out = ""
    elif kind == "loose":
        for index, path in enumerate(sorted(test.glob("*/*.png"))):
            path.rename(test / f"{index}.png")
        for name in ("disc", "square"):
            (test / name).rmdir()
    elif kind == "other_case":
        for name in ("disc", "square"):
            (test / name).rename(test / name.upper())
    else:
        for path in test.glob("*/*.png"):
            path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UserError) as told:
        splits_of(f"folder:{split_folder}")
    rule = f"--data: the source names the test split, and no image of it can be used{left_out}; add images to it, or leave it out"
    assert str(told.value).startswith(rule)
    shutil.rmtree(test)
    assert len(splits_of(f"folder:{split_folder}").test)


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


def test_sub_folders_that_may_be_classes_are_named(tmp_path):
    for index, name in enumerate(("insects/ants", "insects/bees", "plants/deep/er", "plants")):
        write(tmp_path / name / f"{index}.png", seed=index)
    listing = sources.load(Config(data=f"folder:{tmp_path}"))
    assert listing.classes == ("insects", "plants")
    assert [tuple(finding)[:4] for finding in listing.findings] == [
        ("insects/", "subfolders", "warn", "holds 2 sub-folders (ants, bees); their images are taken together")
    ]


def test_hidden_and_system_files_are_passed_over(split_folder):
    before = audited(f"folder:{split_folder}")[0].ids.tolist()
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (split_folder / "train" / "disc" / name).write_bytes(b"x")
    for folder in ("train/disc/.thumbnails", "train/.git", ".cache"):
        write(split_folder / folder / "0.png")
    checked, _ = audited(f"folder:{split_folder}")
    assert checked.ids.tolist() == before
    assert {finding.kind for finding in checked.findings} == {"system_file"}


def test_what_would_never_end_is_named_and_not_opened(split_folder):
    folder = split_folder / "train" / "disc"
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(split_folder / "pipe")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(60 << 30)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket.jpg"))
    checked, _ = audited(f"folder:{split_folder}")
    assert {finding.path: (finding.kind, finding.detail) for finding in checked.findings} == {
        "pipe": ("no_class", "outside of any class folder"),
        "train/disc/pipe.jpg": ("unreadable", "is no regular file"),
        "train/disc/socket.jpg": ("unreadable", "is no regular file"),
        "train/disc/sparse.jpg": ("unreadable", "has more than 256 MiB"),
        "train/disc/zero.jpg": ("unreadable", "is no regular file"),
    }


def test_linked_and_closed_folders_are_named(split_folder, tmp_path, monkeypatch):
    write(tmp_path / "elsewhere" / "0.png", seed=90)
    (split_folder / "train" / "disc" / "more").symlink_to(tmp_path / "elsewhere")
    write(split_folder / "train" / "disc" / "closed" / "0.png", seed=91)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    listing = sources.load(Config(data=f"folder:{split_folder}"))
    assert {finding.path: finding.kind for finding in listing.findings} == {
        "train/disc/closed/": "unreadable",
        "train/disc/more/": "linked_folder",
    }
    assert len(listing.ids) == 22


def test_names_are_listed_as_they_can_be_printed(split_folder):
    whole = (split_folder / "train" / "disc" / "0.png").read_bytes()
    for name in (b"caf\xe9.png", b"a\x1b[2Jb\n.png"):
        with open(os.fsencode(split_folder / "train" / "disc") + b"/" + name, "wb") as file:
            file.write(whole)
    checked, _ = audited(f"folder:{split_folder}")
    assert {"train/disc/caf\\udce9.png", "train/disc/a\\x1b[2Jb\\n.png"} <= set(checked.ids.tolist())
    every = "".join(checked.ids) + "".join(finding.path + finding.detail for finding in checked.findings)
    assert every.isprintable() and every.encode()
    assert [finding.kind for finding in checked.findings] == ["duplicate", "duplicate"]


@pytest.mark.parametrize(
    ("name", "text"), [(b"caf\xe9", r"caf\\udce9"), (b"a\x1b[2J", r"a\\x1b\[2J"), (b"a\nb", r"a\\nb")]
)
def test_a_class_whose_name_cannot_be_written_is_told_at_once(tmp_path, name, text):
    for folder in (name, b"other"):
        os.makedirs(os.fsencode(tmp_path) + b"/set/" + folder)
        with open(os.fsencode(tmp_path) + b"/set/" + folder + b"/0.png", "wb") as file:
            file.write(b"x")
    with pytest.raises(
        UserError, match=rf"--data: the name of class '{text}' is no UTF-8, or holds control characters"
    ):
        sources.load(Config(data=f"folder:{tmp_path / 'set'}"))


@pytest.mark.parametrize(("name", "safe"), [("..", "data"), ("", "data"), ("a/b\n", "a_b_n"), ("set", "set")])
def test_a_name_that_becomes_a_folder_is_one(name, safe):
    assert listings.folder_name(name) == safe


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


def test_a_class_called_train_is_told_to_be_renamed(tmp_path):
    for index, name in enumerate(("bus", "car", "Train")):
        write(tmp_path / "set" / name / "0.png", seed=index)
    rule = "found: none; Train/ is taken for the training split; if it is a class like bus/, rename it. Received"
    with pytest.raises(UserError, match=rule):
        sources.load(Config(data=f"folder:{tmp_path / 'set'}"))


def test_too_few_images_are_told_with_how_many_are_needed(tmp_path):
    for index, name in enumerate(("a", "b")):
        write(tmp_path / "set" / name / "0.png", seed=index)
    with pytest.raises(UserError, match="a class needs at least three different images, one for each of train, val"):
        splits_of(f"folder:{tmp_path / 'set'}")


@pytest.mark.parametrize("path", ["/proc/self", "/sys", "/dev", "/proc", "/"])
def test_a_pseudo_file_system_is_refused_before_it_is_listed(path):
    """`/proc/self/root` led through all files of the machine."""
    with pytest.raises(UserError, match=rf"--data: must be a folder of images; .*Received: 'folder:{path}'"):
        sources.load(Config(data=f"folder:{path}"))


def test_a_linked_class_folder_that_holds_the_data_itself_is_not_followed(split_folder):
    before = audited(f"folder:{split_folder}")[0].ids.tolist()
    (split_folder / "train" / "whole").symlink_to("/")
    (split_folder / "train" / "above").symlink_to(split_folder)
    (split_folder / "train" / "kernel").symlink_to("/proc/self")
    checked, _ = audited(f"folder:{split_folder}")
    assert checked.ids.tolist() == before
    assert {finding.path: finding.kind for finding in checked.findings} == dict.fromkeys(
        ("train/whole/", "train/above/", "train/kernel/"), "linked_folder"
    )


def test_a_class_folder_may_be_a_link(split_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "ring"
    write(elsewhere / "0.png")
    (split_folder / "train" / "ring").symlink_to(elsewhere)
    assert "train/ring/0.png" in audited(f"folder:{split_folder}")[0].ids
