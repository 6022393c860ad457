"""What `--data` may name, the embedded digits, and settings that a task refuses."""

import shutil

import pytest
from conftest import splits_of, write

from kerasft.data import listing as listings
from kerasft.data import sources
from kerasft.data.listing import SPLITS
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def test_digits_are_embedded():
    data = splits_of("digits")
    assert data.classes == tuple("0123456789")
    assert sum(len(getattr(data, part)) for part in SPLITS) == 1797
    assert data.train.read(0).startswith(b"\x89PNG")


def test_a_fraction_of_a_split_that_the_source_names_is_said_to_be_unused(split_folder, capsys):
    sources.load(Config(data=f"folder:{split_folder}"))
    shutil.rmtree(split_folder / "val")
    assert capsys.readouterr().out == ""
    sources.load(Config(data=f"folder:{split_folder}", val_fraction=0.3, test_fraction=0.3))
    rule = "WARNING: --test_fraction: is not used, for the source names the test split. Received: 0.3\n"
    assert capsys.readouterr().out == rule


def test_a_folder_called_digits_is_told_from_the_embedded_ones(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sources.load(Config(data="digits"))
    assert capsys.readouterr().out == ""
    (tmp_path / "digits").symlink_to(photos)
    sources.load(Config(data="digits"))
    assert "WARNING: --data: the embedded digits are used, not the folder digits/" in capsys.readouterr().out
    assert sources.load(Config(data="folder:digits")).classes == ("disc", "square")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "digit",
            r"--data: must be one of csv:FILE, digits, folder:DIR, generated:CLASSESxIMAGES, tfds:NAME \(did you mean 'digits'\?\)\. Received: 'digit'",
        ),
        ("digits:x", "digits takes no argument"),
        ("folder:", "no such folder"),
        ("folder:{root}/nope", "no such folder"),
        ("folder:{root}/trian", r"no such folder \(did you mean 'train'\?\)"),
        ("folder:{root}/train/disc", "at least two class folders"),
        ("folder:{root}/train/disc/0.png", "is a file; a table is csv:FILE"),
        (
            "csv:{root}",
            r"is a folder; a folder of class folders is folder:DIR, a table is csv:FILE \(in it: rows.csv\)",
        ),
        ("folder:/", "must be a folder of images; / holds the whole machine"),
    ],
)
def test_wrong_sources_are_refused(split_folder, data, message):
    (split_folder / "rows.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=message):
        sources.load(Config(data=data.format(root=split_folder)))


def test_a_folder_or_a_table_that_is_there_needs_no_prefix(split_folder):
    (split_folder / "rows.csv").write_text("path,label\ntrain/disc/0.png,a\ntrain/disc/1.png,b\n")
    for data, classes in ((split_folder, ("disc", "square")), (split_folder / "rows.csv", ("a", "b"))):
        assert sources.load(Config(data=str(data))).classes == classes


@pytest.mark.parametrize("name", ["a\u202e.csv", "x" * 230 + ".csv"])
def test_a_name_that_cannot_name_a_folder_is_refused(split_folder, name):
    (split_folder / name).write_text("path,label\ntrain/disc/0.png,a\ntrain/disc/1.png,b\n")
    with pytest.raises(UserError, match="--data: its name becomes the name of a folder; it must be 1 to 200 bytes"):
        sources.load(Config(data=f"csv:{split_folder / name}"))


@pytest.mark.parametrize(
    ("name", "safe"),
    [("...csv", "data"), ("a\n.csv", r"a\n"), ("a\x1b[2J.csv", r"a\x1b[2J"), ("\udcff.csv", r"\udcff")],
)
def test_a_name_with_harmful_characters_is_escaped(split_folder, name, safe):
    (split_folder / name).write_text("path,label\ntrain/disc/0.png,a\ntrain/disc/1.png,b\n")
    assert sources.load(Config(data=f"csv:{split_folder / name}")).name == listings.folder_name(safe)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "multi_label"}, r"--task: digits is single_label\. Received: 'multi_label'"),
        ({"splits": "train=train"}, r"--splits: is for tfds; digits names its own splits\. Received: 'train=train'"),
        ({"task": "regression"}, "--task: digits is single_label"),
    ],
)
def test_settings_that_the_source_contradicts_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        sources.load(Config(data="digits", **settings))


@pytest.mark.parametrize(
    ("labels", "setting", "message"),
    [
        ("0.5 1 2", {"per_class_limit": 3}, r"--per_class_limit: is for single_label and multi_label.* Received: 3"),
        (
            "0.5 1 2",
            {"class_weights": "balanced"},
            "--class_weights: is for single_label and multi_label, and this is reg",
        ),
        ("0.5 1 2", {"sampling": "balanced"}, "--sampling: is for single_label, and this is regression"),
        ("a|b b a", {"sampling": "balanced"}, "--sampling: is for single_label, and this is multi_label"),
        ("a|b b a", {"class_weights": "balanced", "per_class_limit": 1}, None),
        ("a b a", {"class_weights": "balanced", "per_class_limit": 1, "sampling": "balanced"}, None),
    ],
)
def test_settings_that_the_task_refuses(tmp_path, labels, setting, message):
    rows = []
    for index, label in enumerate(labels.split()):
        write(tmp_path / f"{index}.png", seed=index)
        rows.append(f"{index}.png,{label}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    config = Config(data=f"csv:{tmp_path / 't.csv'}", **setting)
    if message is None:
        assert len(sources.load(config).ids) == 3
    else:
        with pytest.raises(UserError, match=message):
            sources.load(config)


def test_a_mistake_in_the_data_is_one_line_on_the_command_line(command, tmp_path):
    (tmp_path / "t.csv").write_text("file,kind\na.png,cat\n")
    run = command("--data=csv:t.csv", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.strip().splitlines()[-1].endswith("targets; found: file, kind. Received: 'csv:t.csv'")
    assert "Traceback" not in run.stderr
