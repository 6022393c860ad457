"""The audit: what cannot be read is named with its kind, what looks wrong is named."""

import csv
import shutil
import struct
import zlib
from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from conftest import audited, make_image, rotten, shared, splits_of, write
from PIL import Image

from kerasft.data import audit, splits
from kerasft.settings import machine
from kerasft.settings.errors import UserError


def test_bad_files_are_named_with_their_kind(split_folder):
    folder = split_folder / "train" / "disc"
    whole = (folder / "0.png").read_bytes()
    bad = {"empty.png": b"", "words.jpg": b"hello", "half.png": whole[: len(whole) // 2], "a.tif": b"II*\0" + b"x" * 40}
    bad |= {"b.heic": b"\0\0\0\x18ftypheic" + b"x" * 40, "page.png": b"<!DOCTYPE html>"}
    for name, contents in bad.items():
        (folder / name).write_bytes(contents)
    make_image("disc", np.random.default_rng(0)).resize((2, 2)).save(folder / "tiny.png")
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (split_folder / "train" / "stray.png").write_bytes(whole)
    (split_folder / "train" / "empty").mkdir()
    write(split_folder / "test" / "ring" / "0.png")
    checked, images = audited(f"folder:{split_folder}")
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
    assert len(checked.ids) == len(images(np.arange(22))) == 22
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
    by_path = defaultdict(set)
    for finding in checked.findings:
        by_path[finding.path].add((finding.kind, finding.verdict))
    with (root / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 57
    unsupported = {"train/ants/photo.tif"}  # named, as its row allows
    wrong = [
        row["path"]
        for row in rows
        if (row["expected"] == "reject" or row["path"] in unsupported)
        != any(verdict == "reject" for _, verdict in by_path[row["path"]])
        or (row["path"] in checked.ids) != (row["expected"] == "ok" and row["path"] not in unsupported)
    ]
    assert wrong == []
    assert set(by_path) - {row["path"] for row in rows} == {"MANIFEST.csv"}
    assert by_path["test/bees/dup_test.jpg"] == {("duplicate_across_splits", "warn")}
    assert by_path["train/bees/conflict_label.jpg"] == {("conflicting_label", "warn")}
    data = splits.make_splits(checked, None, 0.2, 0.2, 0)
    assert "test/bees/dup_test.jpg" not in data.test.ids


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_the_limit_holds_where_pillow_fails(split_folder):
    """A PNG whose text unpacks to more than Pillow allows: its size was not looked at, and 1.5 GB were decoded."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 22_000, 22_000, 1, 0, 0, 0, 0))
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 21)))
    rows = _chunk(b"IDAT", zlib.compress(bytes(2751) * 22_000, 9))
    bomb = b"\x89PNG\r\n\x1a\n" + head + text + rows + _chunk(b"IEND", b"")
    (split_folder / "train" / "disc" / "bomb.png").write_bytes(bomb)
    checked, _ = audited(f"folder:{split_folder}")
    assert [(finding.path, finding.kind) for finding in checked.findings] == [("train/disc/bomb.png", "too_large")]


def test_a_film_is_called_a_film(split_folder):
    for name, brand in (("a.mp4", b"isom"), ("b.mov", b"qt  "), ("c.heic", b"heic"), ("d.avif", b"avif")):
        (split_folder / "train" / "disc" / name).write_bytes(b"\0\0\0\x18ftyp" + brand + b"x" * 40)
    checked, _ = audited(f"folder:{split_folder}")
    assert [(finding.path[-4:], finding.detail.partition(";")[0]) for finding in checked.findings] == [
        (".mp4", "video (MP4 or QuickTime)"),
        (".mov", "video (MP4 or QuickTime)"),
        ("heic", "HEIC or AVIF"),
        ("avif", "HEIC or AVIF"),
    ]


def test_an_animation_that_cannot_be_read_is_not_called_corrupt(split_folder):
    folder, frames = split_folder / "train" / "disc", [make_image("disc", np.random.default_rng(n)) for n in range(3)]
    frames[0].save(folder / "film.webp", save_all=True, append_images=frames[1:])
    (finding,) = audited(f"folder:{split_folder}")[0].findings
    assert finding[:4] == (
        "train/disc/film.webp",
        "unsupported_format",
        "reject",
        "animated WebP without transparency; convert the file",
    )


def test_damage_that_the_decoder_forgives_is_named(split_folder, capfd):
    folder = split_folder / "train" / "disc"
    rotten(folder / "rotten.jpg", 0)
    make_image("disc", np.random.default_rng(1), 200, 160).save(folder / "whole.jpg")
    checked, images = audited(f"folder:{split_folder}")
    (found,) = checked.findings
    assert found[:3] == ("train/disc/rotten.jpg", "damaged", "warn")
    assert found.detail.startswith("Corrupt JPEG data: ")
    assert len(checked.ids) == len(images(np.arange(24))) == 24
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("batched", [True, False])
def test_one_damaged_file_does_not_have_all_of_its_step_decoded_alone(split_folder, monkeypatch, batched):
    folder, calls, decode = split_folder / "train" / "disc", [], audit.decode_batch
    for index in range(12):
        make_image("disc", np.random.default_rng(index), 200, 160).save(folder / f"whole{index:02d}.jpg")
    rotten(folder / "rotten.jpg", 0)
    monkeypatch.setattr(machine, "cpu_count", lambda: 2)
    monkeypatch.setattr(audit, "MAX_BATCHED_PIXELS", audit.MAX_BATCHED_PIXELS if batched else 0)

    def noted(contents, size, framing):
        tf.py_function(lambda found: calls.append(len(found)), [contents], [])
        return decode(contents, size, framing)

    monkeypatch.setattr(audit, "decode_batch", noted)
    (found,) = audited(f"folder:{split_folder}")[0].findings
    assert found[:3] == ("train/disc/rotten.jpg", "damaged", "warn")
    # 35 files in 5 calls; then 13 JPEGs, those of one call alone.
    assert calls.count(1) <= (audit.IMAGES_PER_CALL if batched else 35 + 13)


def test_copies_in_other_bytes_are_known(split_folder):
    Image.open(split_folder / "train/disc/0.png").save(split_folder / "test/disc/again.bmp")
    Image.open(split_folder / "train/disc/1.png").save(split_folder / "test/square/other.webp", lossless=True)
    checked, _ = audited(f"folder:{split_folder}")
    assert {finding.path: (finding.kind, finding.detail) for finding in checked.findings} == {
        "test/disc/again.bmp": (
            "duplicate_across_splits",
            "same image in other bytes as train/disc/0.png; not used in test",
        ),
        "test/square/other.webp": (
            "duplicate_across_splits",
            "same image in other bytes as train/disc/1.png, under another label; not used in test",
        ),
    }


def test_a_copy_in_val_of_an_image_that_is_drawn_into_test_is_used(split_folder):
    """Without test/, some images of train become test. There the copy is left out, not in val, which is the earlier one."""
    shutil.rmtree(split_folder / "test")
    for index in range(6, 10):
        write(split_folder / f"train/disc/{index}.png", seed=900 + index)
    for index in range(10):
        shutil.copy(split_folder / f"train/disc/{index}.png", split_folder / f"val/disc/copy{index}.png")
    data = splits_of(f"folder:{split_folder}")
    moved = [f"train/disc/{index}.png" for index in range(10) if f"val/disc/copy{index}.png" in data.val.ids]
    assert data.excluded == {"val": 10 - len(moved), "test": len(moved)} and 0 < len(moved) < 10
    found = {one.path: one.detail for one in data.findings if one.kind == "duplicate_across_splits"}
    assert len(found) == 10
    for index in range(10):
        train, val = f"train/disc/{index}.png", f"val/disc/copy{index}.png"
        if train in moved:
            assert found[train] == f"same image as {val}; not used in test"
        else:
            assert found[val] == f"same bytes as {train}; not used in val, unless {train} is drawn into test"


@pytest.mark.parametrize("change", ["unlink", "write"])
def test_an_image_that_is_gone_or_changed_after_the_audit_is_told(split_folder, change):
    checked, _ = audited(f"folder:{split_folder}")
    path = split_folder / checked.ids[3]
    path.unlink() if change == "unlink" else path.write_bytes(b"other")
    rule = r"can no longer be read \(No such file" if change == "unlink" else "has changed since the audit"
    with pytest.raises(UserError, match=rf"--data: an image {rule}.*Received: '{checked.ids[3]}'"):
        checked.read(3)
    checked.read(4)


def test_what_libjpeg_says_of_a_jpeg_that_it_cannot_decode_is_not_printed(split_folder, capfd):
    folder = split_folder / "train" / "disc"
    make_image("disc", np.random.default_rng(1), 200, 160).save(folder / "whole.jpg")
    contents = (folder / "whole.jpg").read_bytes()
    place = contents.index(b"\xff\xc4")
    (folder / "bogus.jpg").write_bytes(contents[: place + 2] + b"\0\1" + contents[place + 4 :])
    checked, _ = audited(f"folder:{split_folder}")
    assert [(finding.path, finding.kind) for finding in checked.findings] == [("train/disc/bogus.jpg", "corrupt")]
    assert "Bogus" not in capfd.readouterr().err


def test_a_bad_file_among_the_images_of_one_call_costs_only_itself(split_folder, monkeypatch):
    """One call decodes several images, and TensorFlow's error does not say which of them is at fault."""
    kept, images = audited(f"folder:{split_folder}")
    whole = (split_folder / "train/disc/0.png").read_bytes()
    for name in ("00", "1x", "3x"):
        (split_folder / "train" / "disc" / f"{name}.png").write_bytes(whole[: len(whole) // 2])
    checked, with_bad = audited(f"folder:{split_folder}")
    assert [finding.kind for finding in checked.findings] == ["corrupt"] * 3
    assert checked.ids.tolist() == kept.ids.tolist()
    monkeypatch.setattr(audit, "MAX_BATCHED_PIXELS", 0)
    _, alone = audited(f"folder:{split_folder}")
    every = np.arange(len(kept.ids))
    for found in (with_bad, alone):
        np.testing.assert_array_equal(found(every), images(every))
