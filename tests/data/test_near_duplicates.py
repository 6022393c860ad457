"""Near duplicates: copies of all kinds are found, other images of the same kind are not."""

import numpy as np
import pytest
from conftest import audited
from textures import COPIES, texture

from kerasft.data import image_measurements, near_duplicates


def squares(images: list) -> np.ndarray:
    """The centred squares of images, uint8 [N, 96, 96, 3]."""
    found = []
    for image in images:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        found.append(np.asarray(image.crop((left, top, left + side, top + side)).resize((96, 96))))
    return np.stack(found)


def find(images: np.ndarray, size: int = 100) -> list:
    found = image_measurements.make_empty(len(images))
    image_measurements.measure(images, found, list(range(len(images))))
    found.sizes[:] = size
    return near_duplicates.find_pairs(found, lambda rows: images[rows])[0]


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_nothing_else(kind):
    originals = [texture(seed) for seed in range(20)]
    pairs = find(squares([*originals, *(COPIES[kind](image) for image in originals[:6])]))
    assert [pair[:2] for pair in pairs] == [(row, 20 + row) for row in range(6)]
    assert all(near_duplicates.MIN_CORRELATION <= pair.correlation <= 1 for pair in pairs)


def test_images_of_one_scene_are_told_apart_by_their_detail():
    """The same low frequencies under other detail, as of two hands before one wall."""
    rough = np.asarray(texture(0).resize((6, 6)).resize((96, 96)), np.float32)
    rng = np.random.default_rng(1)
    images = [rough + 0.5 * (np.asarray(texture(seed).resize((96, 96)), np.float32) - 128) for seed in range(1, 9)]
    images = np.uint8(np.clip(images + rng.normal(0, 1, (8, 96, 96, 3)), 0, 255))
    assert find(images) == []


def test_images_without_detail_or_of_few_pixels_are_not_compared():
    flat = np.full((3, 96, 96, 3), 90, np.uint8)
    assert find(flat) == []
    same = squares([texture(0), COPIES["re-encoded"](texture(0))])
    assert len(find(same)) == 1
    assert find(same, size=near_duplicates.MIN_SIDE - 1) == []
    assert find(same[:1]) == []


def test_the_shift_of_a_wide_image_is_found_from_both_sides():
    """Of an image that is not square, a crop at one side moves the centred square."""
    wide = texture(3, 140, 96)
    images = squares([wide, wide.crop((14, 0, 140, 96)), *(texture(seed) for seed in range(4, 12))])
    for order in (images, images[[1, 0, *range(2, 10)]]):
        assert [pair[:2] for pair in find(order)] == [(0, 1)]


def test_large_sets_are_compared_by_fewer_parts(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_ALL_REGIONS", 5)
    originals = [texture(seed) for seed in range(8)]
    pairs = find(squares([*originals, COPIES["cropped"](originals[2])]))
    assert [pair[:2] for pair in pairs] == [(2, 8)]


def test_pairs_that_are_not_compared_are_counted_and_told(tmp_path, monkeypatch):
    for name, seeds in (("a", range(8)), ("b", range(8, 12))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            texture(seed).save(tmp_path / name / f"{seed}.png")
    for seed in range(4):
        COPIES["half"](texture(seed)).save(tmp_path / "a" / f"half{seed}.png")
    whole, _ = audited(f"folder:{tmp_path}", 96)
    kinds = [finding.kind for finding in whole.findings]
    assert (kinds.count("near_duplicate"), kinds.count("not_compared")) == (4, 0)
    monkeypatch.setattr(near_duplicates, "MAX_COMPARED", 2)
    few, _ = audited(f"folder:{tmp_path}", 96)
    assert [finding.kind for finding in few.findings].count("near_duplicate") == 2
    (told,) = [finding for finding in few.findings if finding.kind == "not_compared"]
    assert (told.path, told.verdict) == ("all files", "warn")
    assert told.detail.startswith("2 pairs of similar images were not compared, only the 2 most similar")


def test_groups_are_named_by_their_least_row():
    pairs = [near_duplicates.Pair(1, 4, 1.0), near_duplicates.Pair(4, 5, 1.0)]
    assert near_duplicates.group(6, pairs).tolist() == [0, 1, 2, 3, 1, 1]
    assert near_duplicates.group(2, []).tolist() == [0, 1]


@pytest.fixture
def scenes(tmp_path):
    """Textures of two classes under train/, val/ and test/, all different."""
    seed = 0
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                texture(seed).save(tmp_path / part / name / f"{index}.png")
    return tmp_path


def test_leaks_and_labels_are_named_with_the_other_file(scenes):
    COPIES["half"](texture(1)).save(scenes / "test/a/leak.png")
    COPIES["cropped"](texture(2)).save(scenes / "val/b/leak.jpg", quality=80)
    COPIES["re-encoded"](texture(3)).save(scenes / "train/b/copy.png")
    checked, _ = audited(f"folder:{scenes}", size=96)
    found = {finding.path: finding for finding in checked.findings}
    assert {path: (one.kind, one.other) for path, one in found.items()} == {
        "test/a/leak.png": ("leak", "train/a/0.png"),
        "val/b/leak.jpg": ("leak", "train/a/1.png"),
        "train/b/copy.png": ("near_duplicate", "train/a/2.png"),
    }
    assert "train/a/0.png" in found["test/a/leak.png"].detail
    assert ["under another label" in found[path].detail for path in found] == [
        path.split("/")[1] == "b" for path in found
    ]
    assert all(0.9 < finding.score <= 1 for finding in found.values())


def test_what_equal_and_near_copies_have_in_common_is_said_once(scenes):
    copy = COPIES["cropped"](texture(1))
    for name in ("train/a/copy.png", "test/a/copy.png"):
        copy.save(scenes / name)
    checked, _ = audited(f"folder:{scenes}", size=96)
    kinds = sorted((finding.path, finding.kind) for finding in checked.findings)
    assert kinds == [
        ("test/a/copy.png", "duplicate_across_splits"),
        ("train/a/copy.png", "near_duplicate"),
    ]
    assert len(set(checked.near_groups.tolist())) == len(checked.ids) - 2
