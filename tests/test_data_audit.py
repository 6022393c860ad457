"""The audit: what cannot be read is named with its kind, what looks wrong is named."""

import csv
import shutil

import numpy as np
import pytest
from conftest import audited, picture, shared, write


def test_bad_files_are_named_with_their_kind(split_folder):
    folder = split_folder / "train" / "disc"
    whole = (folder / "0.png").read_bytes()
    bad = {"empty.png": b"", "words.jpg": b"hello", "half.png": whole[: len(whole) // 2], "a.tif": b"II*\0" + b"x" * 40}
    bad |= {"b.heic": b"\0\0\0\x18ftypheic" + b"x" * 40, "page.png": b"<!DOCTYPE html>"}
    for name, contents in bad.items():
        (folder / name).write_bytes(contents)
    picture("disc", np.random.default_rng(0)).resize((2, 2)).save(folder / "tiny.png")
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (split_folder / "train" / "stray.png").write_bytes(whole)
    (split_folder / "train" / "empty").mkdir()
    write(split_folder / "test" / "ring" / "0.png")
    checked, pictures = audited(f"folder:{split_folder}")
    kinds = {
        finding.path.rpartition("/")[2] or finding.path: finding.kind
        for finding in checked.findings
        if finding.verdict == "reject"
    }
    assert kinds == {
        "empty.png": "empty_file",
        "words.jpg": "not_an_image",
        "half.png": "corrupt",
        "a.tif": "unsupported_format",
        "b.heic": "unsupported_format",
        "page.png": "unsupported_format",
        "tiny.png": "too_small",
        "link.png": "unreadable",
        "Thumbs.db": "system_file",
        "stray.png": "no_class",
        "train/empty/": "empty_class",
        "0.png": "class_not_in_train",
    }
    assert len(checked.ids) == len(pictures(np.arange(22))) == 22
    assert checked.read(21) == (split_folder / checked.ids[21]).read_bytes()


def test_copies_are_reported(split_folder):
    shutil.copy(split_folder / "train/disc/0.png", split_folder / "test/disc/leak.png")
    shutil.copy(split_folder / "train/disc/1.png", split_folder / "train/square/doubt.png")
    checked, _ = audited(f"folder:{split_folder}")
    found = {(finding.kind, finding.verdict) for finding in checked.findings}
    assert found == {("duplicate_across_splits", "warn"), ("conflicting_label", "warn")}


@pytest.mark.parametrize(("labels", "kind"), [("a|b a|b b", "duplicate"), ("a|b b a", "conflicting_label")])
def test_copies_under_labels_of_any_form(tmp_path, labels, kind):
    for name, seed in (("0.png", 0), ("1.png", 0), ("2.png", 2)):
        write(tmp_path / name, seed=seed)
    rows = [f"{index}.png,{label}" for index, label in enumerate(labels.split())]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    checked, _ = audited(f"csv:{tmp_path / 't.csv'}")
    assert [(finding.path, finding.kind) for finding in checked.findings] == [("1.png", kind)]


def test_the_shared_dirty_folder(tmp_path):
    root = tmp_path / "dirty"
    shutil.copytree(shared("data", "dirty"), root)
    (root / "train").chmod(0o755)
    (root / "train" / "empty_class").mkdir(exist_ok=True)
    checked, _ = audited(f"folder:{root}")
    rejected = {finding.path: finding.kind for finding in checked.findings if finding.verdict == "reject"}
    unsupported = {"train/ants/photo.tif"}  # named, as its row allows
    with (root / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["path"] for row in csv.DictReader(file) if row["expected"] == "reject"}
    assert set(rejected) - {"MANIFEST.csv"} == expected | unsupported
    warned = {finding.path for finding in checked.findings if finding.verdict == "warn"}
    assert warned >= {"train/bees/conflict_label.jpg"}
    assert any("dup_t" in path for path in warned)
