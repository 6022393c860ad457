"""Rules about single images, and about splits that differ."""

import numpy as np
from conftest import audited, write
from PIL import Image, ImageFilter
from textures import texture


def kinds(checked) -> dict[str, str]:
    return {finding.path: finding.kind for finding in checked.findings}


def made(folder, count: int = 30):
    for name in ("a", "b"):
        (folder / name).mkdir()
        for index in range(count):
            texture(index + 100 * (name == "b")).save(folder / name / f"{index:02d}.png")


def test_each_rule_names_its_image(tmp_path):
    made(tmp_path)
    base = texture(500, 200, 160)
    base.point(lambda value: value // 6).save(tmp_path / "a" / "dark.png")
    white = Image.new("RGB", (200, 160), (255, 255, 255))
    white.paste((0, 0, 0), (90, 70, 102, 82))
    white.save(tmp_path / "a" / "bright.png")
    Image.new("RGB", (200, 160), (90, 120, 30)).save(tmp_path / "a" / "constant.png")
    base.filter(ImageFilter.GaussianBlur(12)).save(tmp_path / "a" / "blurred.png")
    texture(501, 400, 90).save(tmp_path / "b" / "wide.png")
    texture(502, 20, 16).save(tmp_path / "b" / "small.png")
    checked, _ = audited(f"folder:{tmp_path}", size=96)
    assert kinds(checked) == {
        "a/dark.png": "dark",
        "a/bright.png": "bright",
        "a/constant.png": "constant",
        "a/blurred.png": "blurred",
        "b/wide.png": "extreme_proportions",
        "b/small.png": "low_resolution",
    }
    assert all(0 < finding.score <= 1 and finding.verdict == "warn" for finding in checked.findings)
    assert len(checked.ids) == 66


def test_what_holds_for_many_images_is_said_once(tmp_path):
    made(tmp_path, 12)
    for path in sorted(tmp_path.glob("a/*")):
        image = Image.open(path)
        image.point(lambda value: value // 6).save(path)
    checked, _ = audited(f"folder:{tmp_path}", size=96)
    (found,) = checked.findings
    assert found[:3] == ("all files", "dark", "warn")
    assert found.detail.startswith("12 of 24 images")


def test_small_images_are_not_called_blurred(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        for index in range(3):
            texture(seed + 10 * index, 4, 4).resize((40, 40)).save(tmp_path / name / f"{index}.png")
    checked, _ = audited(f"folder:{tmp_path}", size=96)
    assert "blurred" not in kinds(checked).values()


def test_splits_that_differ_are_named(tmp_path):
    for part, shift, size in (("train", 0, 120), ("val", 0, 120), ("test", 70, 30)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(12):
                image = texture(index + 20 * (name == "b") + 40 * ("train", "val", "test").index(part), size, size)
                image = image.point(lambda value, shift=shift: min(255, value // 2 + shift))
                image.save(tmp_path / part / name / f"{index}.png")
    checked, _ = audited(f"folder:{tmp_path}", size=64)
    found = {(finding.path, finding.kind) for finding in checked.findings}
    assert found == {("test/", "split_shift")}
    details = sorted(finding.detail for finding in checked.findings)
    assert [detail.split(",")[0].split()[1] for detail in details] == ["brightness", "size"]


def test_images_of_the_usual_kind_are_not_named(split_folder):
    write(split_folder / "train" / "disc" / "more.png", seed=99)
    checked, _ = audited(f"folder:{split_folder}")
    assert checked.findings == ()
    assert np.array_equal(checked.near_groups, np.arange(len(checked.ids)))
