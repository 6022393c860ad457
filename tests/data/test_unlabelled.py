"""Images without labels: which are used, which are left out and why, and the training split that goes on with them."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import audited, make_image, write
from PIL import Image

from kerasft.data import audit, sources, splits, unlabelled
from kerasft.data.sources import folder
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def _pool(root, count=6):
    """Noise with a disc or a square, below folders whose names mean nothing."""
    rng = np.random.default_rng(11)
    for index in range(count):
        place = root / ("", "test/0", "disc")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        make_image(("disc", "square")[index % 2], rng).save(place / f"{index}.jpg", quality=90)
    return root


def _listed(root):
    return _audited(folder.list_unlabelled(str(root)))


def _audited(listing):
    return audit.audit(listing, 32, lambda count: None, audit.make_memory_store(len(listing.ids), 32), inspected=False)


@pytest.fixture(scope="module")
def labelled(photos):
    return audited(f"folder:{photos}")


def _split(labelled):
    return splits.make_splits(*labelled, 0.25, 0.25, 0)


def test_images_at_any_depth_are_listed_and_bad_files_named(tmp_path):
    _pool(tmp_path)
    (tmp_path / "disc" / "words.jpg").write_text("words")
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    os.symlink("/", tmp_path / "machine")
    listing, images = _listed(tmp_path)
    names = {f"unlabelled:{name}" for name in ("0.jpg", "3.jpg", "test/0/1.jpg", "test/0/4.jpg", "disc/2.jpg")}
    assert set(listing.ids) == names | {"unlabelled:disc/5.jpg"} and listing.labels.shape == (6, 0)
    kinds = {finding.path: (finding.kind, finding.verdict) for finding in listing.findings}
    assert kinds.pop("unlabelled:disc/words.jpg") == ("not_an_image", "reject")
    assert {kind for kind, _ in kinds.values()} == {"system_file", "linked_folder"}
    (tmp_path / "3.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    with pytest.raises(UserError, match="--unlabelled: an image has changed"):
        listing.read(listing.ids.tolist().index("unlabelled:3.jpg"))
    assert images(np.array([0, 5])).shape == (2, 32, 32, 3)


def test_it_comes_with_the_labelled_listing(photos, tmp_path):
    for text in (f"folder:{_pool(tmp_path)}", str(tmp_path)):
        listing = sources.load(Config(data=f"folder:{photos}", unlabelled=text))
        assert (len(listing.ids), len(listing.unlabelled.ids)) == (48, 6)


def test_copies_and_what_is_nearly_a_scored_image_are_left_out(labelled, photos, tmp_path):
    data = _split(labelled)
    _pool(tmp_path)
    shutil.copy(photos / data.train.ids[0], tmp_path / "a.jpg")
    shutil.copy(photos / data.test.ids[0], tmp_path / "b.jpg")
    shutil.copy(tmp_path / "0.jpg", tmp_path / "z.jpg")
    # In another quality it is another image to a digest.
    for name, source in (("c", data.val.ids[0]), ("d", data.test.ids[1]), ("e", data.train.ids[1])):
        Image.open(photos / source).save(tmp_path / f"{name}.jpg", quality=70)
    found = unlabelled.with_unlabelled(data, labelled[0], *_listed(tmp_path), 32)
    left_out = {
        finding.path.removeprefix("unlabelled:"): (finding.kind, finding.detail)
        for finding in found.findings[len(data.findings) :]
    }
    assert left_out == {
        "a.jpg": ("copy", f"the same image as {data.train.ids[0]} of train"),
        "b.jpg": ("copy", f"the same image as {data.test.ids[0]} of test"),
        "z.jpg": ("copy", "the same image as unlabelled:0.jpg"),
        "c.jpg": ("near_copy", f"in a group of near duplicates with {data.val.ids[0]} of val"),
        "d.jpg": ("near_copy", f"in a group of near duplicates with {data.test.ids[1]} of test"),
    }
    assert len(found.unlabelled) == 7 and "unlabelled:e.jpg" in found.unlabelled.ids
    assert found.digest != data.digest and found.train is data.train
    with pytest.raises(UserError, match="--unlabelled: no image is left; 24 of 24"):
        unlabelled.with_unlabelled(data, labelled[0], *_listed(photos / "disc"), 32)


def test_the_training_split_goes_on_with_them(labelled, tmp_path):
    data = unlabelled.with_unlabelled(_split(labelled), labelled[0], *_listed(_pool(tmp_path)), 32)
    whole, count = splits.concatenate(data.train, data.unlabelled), len(data.train)
    assert len(whole) == count + 6
    np.testing.assert_array_equal(unlabelled.has_label(whole.labels), np.arange(count + 6) < count)
    rows = np.array([count + 5, 0, count, 3])
    expected = [data.unlabelled.images(np.array([5, 0])), data.train.images(np.array([0, 3]))]
    np.testing.assert_array_equal(whole.images(rows)[[0, 2]], expected[0])
    np.testing.assert_array_equal(whole.images(rows)[[1, 3]], expected[1])
    assert whole.read(count + 1) == data.unlabelled.read(1) and whole.read(1) == data.train.read(1)
    write(tmp_path / "new.png", seed=77)
    other = unlabelled.with_unlabelled(_split(labelled), labelled[0], *_listed(tmp_path), 32)
    assert len({one.digest for one in (whole, data.train, splits.concatenate(data.train, other.unlabelled))}) == 3


@pytest.mark.parametrize("labels", [np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)])
def test_rows_of_numbers_say_none_as_well(labels):
    without = np.full_like(labels, np.nan)
    assert unlabelled.has_label(np.concatenate([labels, without])).tolist() == [True, True, False, False]


def test_images_of_a_group_of_val_or_test_are_left_out(photos, tmp_path):
    rng = np.random.default_rng(12)
    for name in ("video1_a.jpg", "video2_a.jpg", "other.jpg"):
        make_image("disc", rng).save(tmp_path / name)
    source = Config(data=f"folder:{photos}", unlabelled=str(tmp_path), group_pattern=r"(\d+)")
    listing = sources.load(source)
    assert listing.unlabelled.groups.tolist() == ["/unlabelled:other.jpg", "1", "2"]
    labelled, images = audited(f"folder:{photos}")
    data = splits.make_splits(labelled, images, 0.25, 0.25, 0)
    further, further_images = _audited(listing.unlabelled)
    groups = np.array(["1" if name == data.val.ids[0] else f"g{name}" for name in labelled.ids.tolist()])
    found = unlabelled.with_unlabelled(data, replace(labelled, groups=groups), further, further_images, 32, near=False)
    assert found.unlabelled.ids.tolist() == ["unlabelled:other.jpg", "unlabelled:video2_a.jpg"]
    (finding,) = (finding for finding in found.findings if finding.kind == "group_copy")
    assert finding.path == "unlabelled:video1_a.jpg" and "group '1' stands in val" in finding.detail


def test_groups_of_a_column_have_no_row_for_them(photos, tmp_path):
    rows = [f"{photos / label / '00.jpg'},{label},x" for label in ("disc", "square")]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,who", *rows]))
    source = Config(data=f"csv:{tmp_path / 't.csv'}", unlabelled=str(photos), group_column="who")
    with pytest.raises(UserError, match="--group_column: not together with --unlabelled"):
        sources.load(source)
