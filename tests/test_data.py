"""Sources, audit, splits and the pipeline's order, on folders the tests make and on the shared dirty one."""

import csv
import shutil

import numpy as np
import pytest
from conftest import picture, shared

from kerasft import augment, spec
from kerasft.config import Config
from kerasft.data import pipeline, sources, splits
from kerasft.data.audit import audit
from kerasft.data.listing import SPLITS
from kerasft.errors import UserError


def _write(path, kind="disc", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(kind, np.random.default_rng(seed)).save(path, **options)


@pytest.fixture
def split_folder(tmp_path):
    root = tmp_path / "set"
    seed = 0
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for kind in ("disc", "square"):
            for index in range(count):
                seed += 1
                _write(root / part / kind / f"{index}.png", kind, seed)
    return root


def _audited(data, size=32):
    return audit(sources.load(Config(data=data)), size, lambda count: None)


def _carved(data, seed=0, val=0.25, test=0.25):
    checked, pictures = _audited(data)
    return splits.carve(checked, pictures, val, test, seed)


def _ids(split):
    return set(split.ids.tolist())


def test_classes_only_are_split_stratified_seeded_and_without_overlap(photos):
    first, again, other = (_carved(f"folder:{photos}", seed) for seed in (0, 0, 1))
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


def test_given_splits_are_kept(split_folder):
    data = _carved(f"folder:{split_folder}")
    assert {part: sum(data.counts()[part].values()) for part in SPLITS} == {"train": 12, "val": 4, "test": 6}
    assert all(name.startswith("test/") for name in data.test.ids)


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_carved_from_train(split_folder, missing):
    shutil.rmtree(split_folder / missing)
    data = _carved(f"folder:{split_folder}")
    assert all(name.startswith("train/") for name in getattr(data, missing).ids)
    assert data.counts()[missing] == {"disc": 2, "square": 2}
    assert data.counts()["train"] == {"disc": 4, "square": 4}


def test_a_new_file_moves_few_others_and_copies_stay_together(photos, tmp_path):
    root = tmp_path / "more"
    shutil.copytree(photos, root)
    for index in range(12):
        shutil.copy(root / "disc" / f"{index:02d}.jpg", root / "disc" / f"copy{index}.jpg")
    before, after = _carved(f"folder:{photos}"), _carved(f"folder:{root}")
    assert len(_ids(before.test) & _ids(after.test)) >= len(before.test) - 3
    for index in range(12):
        places = [
            part for part in SPLITS if _ids(getattr(after, part)) & {f"disc/copy{index}.jpg", f"disc/{index:02d}.jpg"}
        ]
        assert len(places) == 1


def test_digits_are_embedded():
    data = _carved("digits")
    assert data.classes == tuple("0123456789")
    assert sum(len(getattr(data, part)) for part in SPLITS) == 1797
    assert data.train.read(0).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digit", r"--data: must be one of digits, folder:DIR \(did you mean 'digits'\?\)\. Received: 'digit'"),
        ("digits:x", "digits takes no argument"),
        ("folder:", "no such folder"),
        ("folder:{root}/nope", "no such folder"),
        ("folder:{root}/trian", r"no such folder \(did you mean 'train'\?\)"),
        ("folder:{root}/train/disc", "at least two class folders"),
    ],
)
def test_wrong_sources_are_refused(split_folder, data, message):
    with pytest.raises(UserError, match=message):
        sources.load(Config(data=data.format(root=split_folder)))


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
    _write(split_folder / "test" / "ring" / "0.png")
    checked, pictures = _audited(f"folder:{split_folder}")
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
    assert len(checked.ids) == len(pictures) == 22
    assert checked.read(21) == (split_folder / checked.ids[21]).read_bytes()


def test_copies_are_reported(split_folder):
    shutil.copy(split_folder / "train/disc/0.png", split_folder / "test/disc/leak.png")
    shutil.copy(split_folder / "train/disc/1.png", split_folder / "train/square/doubt.png")
    checked, _ = _audited(f"folder:{split_folder}")
    found = {(finding.kind, finding.verdict) for finding in checked.findings}
    assert found == {("duplicate_across_splits", "warn"), ("conflicting_label", "warn")}


def test_a_class_without_a_readable_training_picture_is_refused(split_folder):
    for path in (split_folder / "train" / "disc").iterdir():
        path.write_bytes(b"spoiled")
    with pytest.raises(UserError, match="class 'disc' has no training picture that can be read"):
        _carved(f"folder:{split_folder}")


def test_the_shared_dirty_folder(tmp_path):
    root = tmp_path / "dirty"
    shutil.copytree(shared("data", "dirty"), root)
    (root / "train").chmod(0o755)
    (root / "train" / "empty_class").mkdir(exist_ok=True)
    checked, _ = _audited(f"folder:{root}")
    rejected = {finding.path: finding.kind for finding in checked.findings if finding.verdict == "reject"}
    unsupported = {"train/ants/photo.tif"}  # named, as its row allows
    with (root / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["path"] for row in csv.DictReader(file) if row["expected"] == "reject"}
    assert set(rejected) - {"MANIFEST.csv"} == expected | unsupported
    warned = {finding.path for finding in checked.findings if finding.verdict == "warn"}
    assert warned >= {"train/bees/conflict_label.jpg"}
    assert any("dup_t" in path for path in warned)


def _stream(data, first, last, seed=0, batch=4):
    layer = augment.build(spec.parse("crop | flip", "--augment"))
    given = {"size": 32, "batch_size": batch, "augment": layer, "seed": seed, "first_step": first, "last_step": last}
    return list(pipeline.training_stream(data.train, **given).as_numpy_iterator())


def test_a_stream_can_start_at_any_step(photos):
    data = _carved(f"folder:{photos}")
    whole = _stream(data, 0, 21)
    assert len(whole) == 21
    for first in (1, 7, 13):
        for (a, b), (c, d) in zip(whole[first:], _stream(data, first, 21), strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


def test_an_epoch_is_a_permutation_and_epochs_differ(photos):
    data = _carved(f"folder:{photos}")
    rows = {}
    held = data.train.pictures
    layer = augment.build(())
    for epoch in range(3):
        given = {
            "size": 32,
            "batch_size": 4,
            "augment": layer,
            "seed": 0,
            "first_step": epoch * 7,
            "last_step": epoch * 7 + 7,
        }
        images = np.concatenate([a for a, _ in pipeline.training_stream(data.train, **given).as_numpy_iterator()])
        everything = held(np.arange(28)).reshape(28, -1)
        rows[epoch] = [int(np.abs(everything - image.reshape(-1)).sum(1).argmin()) for image in images]
        assert sorted(rows[epoch]) == list(range(28))
    assert rows[0] != rows[1] != rows[2]


def test_augmentation_depends_on_seed_epoch_and_example_only(photos):
    data = _carved(f"folder:{photos}")
    assert np.abs(_stream(data, 0, 1)[0][0] - _stream(data, 0, 1, seed=1)[0][0]).max() > 1
    # The same examples in other batches look the same: sort an epoch's pictures by content.
    small, large = (np.concatenate([a for a, _ in _stream(data, 0, 28 // n, batch=n)]) for n in (4, 14))
    key = lambda images: images[np.lexsort(images.reshape(28, -1)[:, :8].T)]  # noqa: E731
    np.testing.assert_allclose(key(small), key(large), atol=1e-3)


def test_pictures_from_files_are_those_from_memory(photos):
    data = _carved(f"folder:{photos}")
    held = np.concatenate(list(pipeline.evaluation_stream(data.val, size=32, batch_size=3).as_numpy_iterator()))
    read = splits.Split(data.val.ids, data.val.labels, data.val.read, None)
    streamed = np.concatenate(list(pipeline.evaluation_stream(read, size=32, batch_size=3).as_numpy_iterator()))
    np.testing.assert_array_equal(held, streamed)
