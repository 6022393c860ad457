"""`--exclude`: images that a list names are not used, and are named."""

import pytest
from conftest import splits_of, write

from kerasft.data import sources
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "train/disc/0.png\n\n./train/disc/1.png\n"),
        ("suspects.csv", "path,label,score\ntrain/disc/0.png,disc,0.9\ntrain/disc/1.png,disc,0.8\n"),
        ("again.csv", "Path;label;score\r\ntrain/disc/0.png;disc;0,9\r\ntrain/disc/1.png;disc;0,8\r\n"),
        ("windows.txt", "train\\disc\\0.png\n.\\train\\disc\\1.png\n"),
        ("bom.csv", "\ufeffscore,path\n1,train/disc/0.png\n1,train/disc/1.png\n"),
    ],
)
def test_named_images_are_left_out_and_told(split_folder, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    whole = sources.load(Config(data=f"folder:{split_folder}"))
    checked = sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / name)))
    gone = ["train/disc/0.png", "train/disc/1.png"]
    assert checked.ids.tolist() == [path for path in whole.ids if path not in gone]
    assert [(finding.path, finding.kind, finding.verdict) for finding in checked.findings] == [
        (path, "excluded", "reject") for path in gone
    ]
    assert checked.read(0) == (split_folder / checked.ids[0]).read_bytes()
    assert all((split_folder / path).is_file() for path in gone)


def test_groups_and_splits_follow(split_folder, tmp_path):
    (tmp_path / "list.txt").write_text("val/disc/0.png\ngone.png\n")
    settings = {"exclude": str(tmp_path / "list.txt"), "group_pattern": r"/(\d+)\."}
    data = splits_of(f"folder:{split_folder}", **settings)
    assert len(data.val) == 3
    (unknown,) = [finding for finding in data.findings if finding.path == "gone.png"]
    assert (unknown.kind, unknown.verdict) == ("excluded", "warn")
    assert "1 of 2 paths" in unknown.detail


def test_a_split_that_is_excluded_is_not_drawn_from_train(split_folder, tmp_path):
    names = [name for name in sources.load(Config(data=f"folder:{split_folder}")).ids if name.startswith("val/")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match=r"names the val split, and .* in all, --exclude names 4 files"):
        splits_of(f"folder:{split_folder}", exclude=str(tmp_path / "list.txt"))


def test_a_backslash_may_be_part_of_a_name(split_folder, tmp_path):
    (split_folder / "train/disc/0.png").rename(split_folder / "train/disc/a\\b.png")
    write(split_folder / "train/disc/a/b.png", seed=99)
    write(split_folder / "train/disc/c/d.png", seed=98)
    (tmp_path / "list.txt").write_text("train/disc/a\\b.png\ntrain\\disc\\c\\d.png")
    checked = sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "list.txt")))
    assert {"train/disc/a\\b.png", "train/disc/c/d.png"} == {
        one.path for one in checked.findings if one.kind == "excluded"
    }
    assert "train/disc/a/b.png" in checked.ids


def test_names_that_a_spreadsheet_would_run(split_folder, tmp_path):
    (split_folder / "train/disc/0.png").rename(split_folder / "train/disc/=1.png")
    (tmp_path / "list.csv").write_text("path\n'=x\ntrain/disc/=1.png\n")
    checked = sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "list.csv")))
    assert "train/disc/=1.png" not in checked.ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train/disk/0.png", "--exclude: names 1 paths, none of which is in the data"),
        (None, "--exclude: No such file"),
        (b"\xff\xfe", "--exclude: must be UTF-8"),
    ],
)
def test_mistakes(split_folder, tmp_path, text, message):
    if text is not None:
        (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as told:
        sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "list.txt")))
    assert str(told.value).startswith(message)


def test_a_table_without_paths_and_a_list_of_everything(split_folder, tmp_path):
    (tmp_path / "a.csv").write_text("file\ntrain/disc/0.png\n")
    with pytest.raises(UserError, match="needs a column path; found: file"):
        sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "a.csv")))
    names = sources.load(Config(data=f"folder:{split_folder}")).ids
    (tmp_path / "all.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match="names all 22 images"):
        sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "all.txt")))


def test_files_that_the_source_rejects_may_be_named(split_folder, tmp_path):
    """Then they are no reason for --bad_images=fail: the job counts what is rejected and not `excluded`."""
    (split_folder / "train" / "loose.png").write_bytes((split_folder / "train/disc/0.png").read_bytes())
    (tmp_path / "list.txt").write_text("train/loose.png\n")
    checked = sources.load(Config(data=f"folder:{split_folder}", exclude=str(tmp_path / "list.txt")))
    (found,) = checked.findings
    assert (found.path, found.kind, found.verdict) == ("train/loose.png", "excluded", "reject")
    assert found.detail == "named in --exclude; no_class: outside of any class folder"


def test_rejected_rows_of_a_table_may_be_named_with_others(split_folder, tmp_path):
    rows = [f"{name},{name.split('/')[1]}" for name in sources.load(Config(data=f"folder:{split_folder}")).ids]
    table = split_folder / "t.csv"
    table.write_text("\n".join(["path,label", *rows, "gone.png,disc", "train/disc/./0.png,square", "x.png,"]))
    (tmp_path / "list.txt").write_text("gone.png\ntrain/disc/0.png\nnever.png\n")
    checked = sources.load(Config(data=f"csv:{table}", exclude=str(tmp_path / "list.txt")))
    kinds = {(finding.path, finding.kind, finding.verdict) for finding in checked.findings}
    assert kinds == {
        ("gone.png", "excluded", "reject"),
        ("train/disc/./0.png", "excluded", "reject"),
        ("train/disc/0.png", "excluded", "reject"),
        ("x.png", "missing_file", "reject"),
        ("never.png", "excluded", "warn"),
    }
    assert len(checked.ids) == len(rows) - 1
