"""The folder source: given splits, and names of every kind."""

from conftest import audited, carved, write

from kerasft.data.listing import SPLITS


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
