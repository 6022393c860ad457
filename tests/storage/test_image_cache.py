"""Decoded images on disk: the same as decoded anew, known again by later runs, and no more than they may take."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image, rotten, write

from kerasft.data import audit, sources, splits
from kerasft.data.decode import decode_batch
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import image_cache
from kerasft.storage.disk_cache import IMAGES, DiskCache

SIDE = 32
BYTES = SIDE * SIDE * 3


@pytest.fixture
def photos(tmp_path):
    for label in ("disc", "ring"):
        for index in range(6):
            write(tmp_path / "set" / label / f"{index}.png", label, seed=index)
    (tmp_path / "set" / "disc" / "half.png").write_bytes((tmp_path / "set" / "disc" / "0.png").read_bytes()[:100])
    return tmp_path / "set"


@pytest.fixture
def counted(monkeypatch):
    """How many files were decoded."""
    done, decode = [], audit._decode
    monkeypatch.setattr(audit, "_decode", lambda contents, graph: done.extend(contents) or decode(contents, graph))
    return done


def _audited(photos, cache):
    listing = sources.load(Config(data=f"folder:{photos}"))
    with image_cache.open_pixel_store(listing, SIDE, cache) as pixel_store:
        checked, images = audit.audit(listing, SIDE, lambda count: None, pixel_store)
    return checked, images and images(np.arange(len(checked.ids)))


def _kept(folder, gigabytes=1.0):
    return DiskCache(folder, int(gigabytes * 1e9), True)


def test_a_later_run_decodes_nothing_and_finds_the_same(photos, tmp_path, counted):
    plain, expected = _audited(photos, DiskCache(tmp_path / "own", 10**9, False))
    assert not list((tmp_path / "own").glob(f"*/{IMAGES}"))  # what fits into memory is held there
    first, images = _audited(photos, _kept(tmp_path / "kept"))
    counted.clear()
    again, later = _audited(photos, _kept(tmp_path / "kept"))
    assert counted == []
    for checked, found in ((first, images), (again, later)):
        np.testing.assert_array_equal(found, expected)
        assert checked.findings == plain.findings
        assert checked.digests.tolist() == plain.digests.tolist()
    assert [finding.kind for finding in again.findings] == ["corrupt"]


def test_a_changed_image_a_mended_one_and_a_flipped_byte_are_decoded_again(photos, tmp_path, counted):
    _audited(photos, _kept(tmp_path / "kept"))
    make_image("ring", np.random.default_rng(77)).save(photos / "disc" / "3.png")
    make_image("disc", np.random.default_rng(78)).save(photos / "disc" / "half.png")
    (file,) = (tmp_path / "kept").glob(f"*/{IMAGES}")
    with file.open("r+b") as opened:  # of disc/1.png
        opened.seek(BYTES + 5)
        byte = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte[0] ^ 64]))
    counted.clear()
    checked, images = _audited(photos, _kept(tmp_path / "kept"))
    assert len(counted) == 3
    assert checked.findings == ()
    expected = audit.make_memory_store(len(checked.ids), SIDE)
    listing = sources.load(Config(data=f"folder:{photos}"))
    _, anew = audit.audit(listing, SIDE, lambda count: None, expected)
    np.testing.assert_array_equal(images, anew(np.arange(len(listing.ids))))


def test_what_does_not_fit_into_memory_goes_to_the_disk_or_is_decoded_each_time(photos, tmp_path, monkeypatch):
    _, expected = _audited(photos, DiskCache(tmp_path / "own", 10**9, False))
    monkeypatch.setattr(audit, "MAX_MEMORY_SHARE", 0.0)
    _, images = _audited(photos, DiskCache(tmp_path / "own", 2 * 13 * BYTES, False))
    np.testing.assert_array_equal(images, expected)
    assert len(list((tmp_path / "own").glob(f"*/{IMAGES}"))) == 1
    _, images = _audited(photos, DiskCache(tmp_path / "small", 2 * 13 * BYTES - 2, False))  # half of it is not enough
    assert images is None
    assert not list((tmp_path / "small").glob(f"*/{IMAGES}"))


def test_splits_read_images_from_the_disk(photos, tmp_path):
    listing = sources.load(Config(data=f"folder:{photos}"))
    with image_cache.open_pixel_store(listing, SIDE, _kept(tmp_path / "kept")) as pixel_store:
        data = splits.make_splits(*audit.audit(listing, SIDE, lambda count: None, pixel_store), 0.25, 0.25, 0)
    for split in (data.train, data.val, data.test):
        contents = [split.read(index) for index in range(len(split))]
        expected = decode_batch(tf.constant(contents), SIDE, "crop").numpy()
        np.testing.assert_array_equal(split.images(np.arange(len(split))), expected)


def test_images_used_longest_ago_make_room(photos, tmp_path):
    cache = DiskCache(tmp_path / "kept", 2 * 20 * BYTES, True)  # for 20 images, 13 a set
    _audited(photos, cache)
    (first,) = cache.folder.glob(f"*/{IMAGES}")
    (photos / "disc").rename(photos / "dot")
    _audited(photos, cache)
    (second,) = cache.folder.glob(f"*/{IMAGES}")
    assert first != second


def test_a_full_disk_is_a_message(photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache.os, "truncate", full)
    with pytest.raises(
        UserError, match=r"--cache_gb: .*cannot be written; .*--keep_cache and --cache_dir.*No space left on device"
    ):
        _audited(photos, _kept(tmp_path / "kept"))


def test_a_run_that_still_reads_keeps_the_images_it_was_audited_with(photos, tmp_path):
    listing = sources.load(Config(data=f"folder:{photos}"))
    with image_cache.open_pixel_store(listing, SIDE, _kept(tmp_path / "kept")) as pixel_store:
        checked, images = audit.audit(listing, SIDE, lambda count: None, pixel_store)
    every = np.arange(len(checked.ids))
    before = np.array(images(every))
    make_image("ring", np.random.default_rng(77)).save(photos / "disc" / "3.png")
    _, changed = _audited(photos, _kept(tmp_path / "kept"))
    assert (changed != before).any()
    np.testing.assert_array_equal(images(every), before)
    _, again = _audited(photos, _kept(tmp_path / "kept"))
    np.testing.assert_array_equal(again, changed)


def test_an_audit_that_is_killed_keeps_what_it_decoded(photos, tmp_path, counted, monkeypatch):
    monkeypatch.setattr(audit, "IMAGES_PER_CORE", 2)
    monkeypatch.setattr(audit.machine, "cpu_count", lambda: 1)
    listing = sources.load(Config(data=f"folder:{photos}"))

    def stop(count):
        if len(counted) > 8:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        image_cache.open_pixel_store(listing, SIDE, _kept(tmp_path / "kept")) as pixel_store,
    ):
        audit.audit(listing, SIDE, stop, pixel_store)
    (log,) = (tmp_path / "kept").glob(f"*/{image_cache.LOG_NAME}")
    with log.open("a") as file:  # as a kill in the middle of a line leaves it
        file.write('[12, "ab')
    counted.clear()
    _, images = _audited(photos, _kept(tmp_path / "kept"))
    assert len(counted) == 13 - 8
    _, expected = _audited(photos, DiskCache(tmp_path / "own", 10**9, False))
    np.testing.assert_array_equal(images, expected)
    assert not log.exists()


def test_damage_is_remembered(photos, tmp_path):
    rotten(photos / "disc" / "rotten.jpg", 0)
    first, _ = _audited(photos, _kept(tmp_path / "kept"))
    again, _ = _audited(photos, _kept(tmp_path / "kept"))
    assert [finding.kind for finding in first.findings] == ["corrupt", "damaged"]
    assert again.findings == first.findings
    assert again.ids.tolist() == first.ids.tolist()
