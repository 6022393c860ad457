"""What --images names: in one order, nothing passed over without a word."""

import os
from pathlib import Path

import pytest

from kerasft.predict import sources
from kerasft.settings.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/2.jpg",
        "b/c/1.png",
        "a.jpg",
        ".x/1.jpg",
        "b/.y.jpg",
        "b/desktop.ini",
        "[odd]*.jpg",
        "o.csv.part/1",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_a_folder_is_every_file_below_it(place):
    found = sources.find_images("in", exclude=(Path("in/o.csv"), Path("in/o.csv.part")))
    assert found.names == ["in/[odd]*.jpg", "in/a.jpg", "in/b/2.jpg", "in/b/c/1.png"]
    assert found.read("in/b/2.jpg") == b"b/2.jpg"


def test_files_and_patterns(place):
    assert sources.find_images("in/[odd]*.jpg").names == ["in/[odd]*.jpg"]
    assert sources.find_images("in/**/*.jpg").names == ["in/[odd]*.jpg", "in/a.jpg", "in/b/2.jpg"]
    with pytest.raises(UserError, match=r"--images: no file matches. Received: 'in/\*.bmp'"):
        sources.find_images("in/*.bmp")


@pytest.mark.parametrize(
    "text",
    ["id;Path;label\n7;a.jpg;x\n8;b/2.jpg;y\n\n7;a.jpg;x\n8;gone.jpg;\n", "path\na.jpg\nb/2.jpg\na.jpg\ngone.jpg\n"],
)
def test_a_table_is_its_rows_in_its_order(place, text):
    """As written, so that the answers can be joined to it; also a file twice and one that is not there."""
    (place / "in" / "new.csv").write_text("\ufeff" + text, encoding="utf-8")
    found = sources.find_images("in/new.csv")
    assert found.names == ["a.jpg", "b/2.jpg", "a.jpg", "gone.jpg"]
    assert found.read("b/2.jpg") == b"b/2.jpg"
    with pytest.raises(FileNotFoundError):
        found.read("gone.jpg")


def test_a_table_that_was_written_can_be_asked_again(place):
    """`--out` puts an apostrophe before what a spreadsheet would run."""
    for name in ("=1.jpg", "'-2.jpg"):
        (place / "in" / name).write_text(name)
    (place / "in" / "o.csv").write_text("path,class\n'=1.jpg,x\n'-2.jpg,x\n'=gone.jpg,x\na.jpg,x\n")
    assert sources.find_images("in/o.csv").names == ["=1.jpg", "'-2.jpg", "=gone.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,label\na,b\n", "the first row must name a column path; found: file, label"),
        (b"path,path\na,b\n", "the first row must name a column path; found: path, path"),
        (b"path\n", "the table names no file"),
        (b"", "the first row must name a column path; found: none"),
        (b"path\n\xff.jpg\n", "must be UTF-8 text"),
    ],
)
def test_a_table_that_names_no_files(place, content, message):
    (place / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=f"--images: {message}. Received: 't.csv'"):
        sources.find_images("t.csv")


def test_what_cannot_be_an_image_is_not_read(place):
    found = sources.ImageFiles([], place)
    with (place / "film.jpg").open("wb") as file:
        file.truncate(1 << 29)
    for name, message in (("in", "is a folder"), ("", "is a folder"), ("film.jpg", "has more than 256 MiB")):
        with pytest.raises(ValueError, match=message):
            found.read(name)
    os.mkfifo(place / "pipe")
    with pytest.raises(ValueError, match="is no regular file"):
        found.read("pipe")


def test_a_table_without_end_is_not_read(place):
    with (place / "t.csv").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(UserError, match=r"--images: has more than 1024 MiB. Received: 't.csv'"):
        sources.find_images("t.csv")


def test_a_linked_folder_is_named(place, capsys):
    (place / "in" / "b" / "more").symlink_to(place / "in" / "b" / "c")
    assert sources.find_images("in/b").names == ["in/b/2.jpg", "in/b/c/1.png"]
    assert "in/b/more: is a link to a folder; it is not followed" in capsys.readouterr().out


def test_a_table_may_have_the_paths_of_windows(place):
    (place / "in" / "odd\\1.jpg").touch()
    (place / "in" / "t.csv").write_text("path\nb\\c\\1.png\nodd\\1.jpg\nno\\x.jpg\n")
    assert sources.find_images("in/t.csv").names == ["b/c/1.png", "odd\\1.jpg", "no/x.jpg"]
