"""The csv source: its dialects, the label rule, and every row that cannot be used, by its number."""

import csv
import os

import numpy as np
import pytest
from conftest import audited, splits_of, write

from kerasft.data import sources
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.fixture
def images(tmp_path):
    """a.png to f.png, in a folder of their own."""
    for index, name in enumerate("abcdef"):
        write(tmp_path / f"{name}.png", "disc", index)
    return tmp_path


def _table(folder, text, task="auto", encoding="utf-8"):
    (folder / "t.csv").write_bytes(text.encode(encoding))
    return sources.load(Config(data=f"csv:{folder / 't.csv'}", task=task))


def _found(listing):
    return {finding.path: (finding.kind, finding.detail.partition(":")[0]) for finding in listing.findings}


def test_rows_become_examples_with_their_splits(images):
    text = "path,label,split\na.png,cat,train\nb.png,dog,TRAIN\nc.png,cat,valid\nd.png,dog,validation\ne.png,cat,test\nf.png,dog,\n"
    listing = _table(images, text)
    assert (listing.name, listing.task, listing.classes) == ("t", "single_label", ("cat", "dog"))
    assert listing.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert listing.labels.dtype == np.int32
    assert listing.split_names.tolist() == ["train", "train", "val", "val", "test", "train"]
    assert listing.read(2) == (images / "c.png").read_bytes()
    assert listing.findings == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects(images, delimiter, encoding, end):
    rows = ["Path,Label", "a.png,cat", "b.png,dog", "c.png,dog"]
    listing = _table(images, end.join(rows).replace(",", delimiter), encoding=encoding)
    assert (listing.ids.tolist(), listing.labels.tolist()) == (["a.png", "b.png", "c.png"], [0, 1, 1])


def test_odd_names(tmp_path):
    names = ["ü ñ 猫.png", "two words.png", "a,b.png", "-dash.png", 'quo"te.png', "semi;colon.png", " lead.png"]
    for index, name in enumerate(names):
        write(tmp_path / "in" / name, "disc", index)
    names.append("../in/deep/er/x.png")
    write(tmp_path / "in" / "deep" / "er" / "x.png", "disc", 99)
    names.append(str(tmp_path / "away.png"))
    write(tmp_path / "away.png", "disc", 100)
    with (tmp_path / "in" / "t.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        table.writerows([name, f"class {i % 2}"] for i, name in enumerate(names))
    checked, _ = audited(f"csv:{tmp_path / 'in' / 't.csv'}")
    assert checked.ids.tolist() == names
    assert checked.findings == ()


# Which of the forms a `label` column, or columns of targets, are taken for.
@pytest.mark.parametrize(
    ("header", "cells", "task", "expected", "classes", "labels"),
    [
        ("label", ["1", "2", "1"], "auto", "single_label", ("1", "2"), [0, 1, 0]),
        ("label", ["1.0", "2", "1.0"], "auto", "single_label", ("1.0", "2"), [0, 1, 0]),
        ("label", ["1.5", "2", "-3e1"], "auto", "regression", ("label",), [[1.5], [2], [-30]]),
        ("label", ["1", "2", "4"], "regression", "regression", ("label",), [[1], [2], [4]]),
        ("label", ["1.5", "2", "1.5"], "single_label", "single_label", ("1.5", "2"), [0, 1, 0]),
        ("label", ["a|b", "b", ""], "auto", "multi_label", ("a", "b"), [[1, 1], [0, 1], [0, 0]]),
        ("label", [" b | a ", "b|b", "|"], "auto", "multi_label", ("a", "b"), [[1, 1], [0, 1], [0, 0]]),
        ("label", ["a", "b", ""], "multi_label", "multi_label", ("a", "b"), [[1, 0], [0, 1], [0, 0]]),
        ("x,y", ["0,1", "1,1", "0,0"], "auto", "multi_label", ("x", "y"), [[0, 1], [1, 1], [0, 0]]),
        ("x,y", ["0,1", "1,1", "0,0"], "regression", "regression", ("x", "y"), [[0, 1], [1, 1], [0, 0]]),
        ("x,y", ["0,1", "1,2", "0,0"], "auto", "regression", ("x", "y"), [[0, 1], [1, 2], [0, 0]]),
        ("x", ["0", "1", "0"], "auto", "regression", ("x",), [[0], [1], [0]]),
        ("x", ["0", "1", "0"], "multi_label", "multi_label", ("x",), [[0], [1], [0]]),
    ],
)
def test_the_label_rule(images, header, cells, task, expected, classes, labels):
    listing = _table(images, f"path,{header}\n" + "".join(f"{n}.png,{c}\n" for n, c in zip("abc", cells)), task)
    assert (listing.task, listing.classes) == (expected, classes)
    np.testing.assert_allclose(listing.labels, labels)
    assert listing.labels.dtype == (np.int32 if expected == "single_label" else np.float32)


def test_other_columns_beside_label_are_named_and_not_used(images):
    listing = _table(images, "id,label,path,is_valid,\n7,cat,a.png,False,\n8,dog,b.png,True,\n")
    assert (listing.task, listing.classes) == ("single_label", ("cat", "dog"))
    (found,) = listing.findings
    assert (found.path, found.kind, found.verdict) == ("t.csv", "unused_column", "warn")
    assert found.detail == "id, is_valid; a column that names the split is called split"


def test_rows_that_cannot_be_used_are_named_with_their_number(images):
    (images / "folder.png").mkdir()
    text = (
        "path,label,split\na.png,cat,\nb.png,dog,\n\nno.png,cat,\nfolder.png,cat,\n,cat,\nc.png,,\n"
        "d.png,cat,trian\ne.png,cow,test\n./a.png,dog,\nf,g.png,dog,\nf.png,dog,val\n"
    )
    listing = _table(images, text)
    assert listing.ids.tolist() == ["a.png", "b.png", "f.png"]
    assert _found(listing) == {
        "no.png": ("missing_file", "row 5"),
        "folder.png": ("missing_file", "row 6"),
        "t.csv": ("no_path", "row 7"),
        "c.png": ("no_label", "row 8"),
        "d.png": ("unknown_split", "row 9"),
        "e.png": ("class_not_in_train", "row 10"),
        "./a.png": ("conflicting_label", "row 11"),
        "f": ("broken_row", "row 12"),
    }
    assert {finding.verdict for finding in listing.findings} == {"reject"}


def test_a_split_of_another_name_is_not_drawn_from_train(images):
    rows = "path,label,split\na.png,cat,training\nb.png,dog,training\nc.png,cat,validation\n"
    assert _table(images, f"{rows}d.png,dog,Testing\n").split_names.tolist() == ["train", "train", "val", "test"]
    with pytest.raises(
        UserError, match=r"no row belongs to test, and d.png: row 5: .*testing, train.* not 'held'\. Rec"
    ):
        _table(images, f"{rows}d.png,dog,held\n")


def test_paths_of_windows_are_read(images):
    write(images / "photos" / "ants" / "1.png", seed=7)
    write(images / "photos\\b.png", seed=8)
    listing = _table(images, "path,label\nphotos\\ants\\1.png,ant\nphotos\\b.png,bee\nno\\c.png,bee\n")
    assert listing.ids.tolist() == ["photos/ants/1.png", "photos\\b.png"]
    assert _found(listing) == {"no/c.png": ("missing_file", "row 4")}


def test_a_file_counts_once(images):
    listing = _table(images, "path,label,split\na.png,cat,train\nb.png,dog,train\na.png,cat,train\n./b.png,dog,test\n")
    assert _found(listing) == {"a.png": ("duplicate", "row 4"), "./b.png": ("duplicate_across_splits", "row 5")}


def test_a_row_that_cannot_be_used_does_not_keep_a_later_one_of_its_file_out(images):
    listing = _table(images, "path,label\na.png,\na.png,cat\nb.png,dog\n")
    assert (listing.ids.tolist(), listing.labels.tolist()) == (["a.png", "b.png"], [0, 1])
    assert _found(listing) == {"a.png": ("no_label", "row 2")}


def test_rows_are_compared_by_what_they_mean(images):
    listing = _table(images, "path,label\na.png,x|y\nb.png,y\n./a.png,y | x\n./b.png,x\n")
    assert _found(listing) == {"./a.png": ("duplicate", "row 4"), "./b.png": ("conflicting_label", "row 5")}
    listing = _table(images, "path,label\na.png,0.5\nb.png,1.5\n./a.png,0.50\n")
    assert _found(listing) == {"./a.png": ("duplicate", "row 4")}


@pytest.mark.parametrize(("header", "way_out"), [("label", ", or --task=single_label"), ("age", "")])
def test_decimal_commas_do_not_become_classes(images, header, way_out):
    text = f"path;{header}\na.png;-0,5\nb.png;1,25\nc.png;2\n"
    with pytest.raises(UserError) as caught:
        _table(images, text)
    rule = f"--task: labels such as '-0,5' have a decimal comma; write -0.5{way_out}. Received: 'auto'"
    assert str(caught.value) == rule
    if way_out:
        assert _table(images, text, "single_label").classes == ("-0,5", "1,25", "2")


def test_commas_of_one_target_are_found_and_may_part_thousands(images):
    with pytest.raises(UserError, match=r"labels such as '0,5' have a decimal comma; write 0\.5\. Received"):
        _table(images, "path;x;y\na.png;0,5;1\nb.png;1,5;0\n")
    with pytest.raises(UserError, match=r"labels such as '1,250' have a comma; write 1250, or 1\.250\. Received"):
        _table(images, "path;x\na.png;1,250\nb.png;8,250\n")


@pytest.mark.parametrize("task", ["auto", "regression", "multi_label"])
def test_one_target_of_0_and_1_is_said_to_be_a_number(images, task):
    found = _table(images, "path,ill\na.png,0\nb.png,1\nc.png,1\n", task).findings
    assert [(one.path, one.kind, one.verdict) for one in found] == (
        [("target 'ill'", "binary_target", "warn")] if task == "auto" else []
    )
    assert not found or found[0].detail.endswith("--task=multi_label gives probabilities")
    assert not _table(
        images, "path,age\na.png,0\nb.png,1\nc.png,2\n", task if task != "multi_label" else "auto"
    ).findings


@pytest.mark.parametrize(("name", "count", "is_found"), [("Id", 3, True), ("nr", 12, True), ("age", 3, False)])
def test_a_target_that_numbers_the_rows_is_named(tmp_path, name, count, is_found):
    for index in range(count):
        write(tmp_path / f"{index}.png", seed=index)
    rows = [f"{index + 1},{index}.png,{index * 0.3}\n" for index in reversed(range(count))]
    listing = _table(tmp_path, f"{name},path,brightness\n" + "".join(rows))
    assert (listing.task, listing.classes) == ("regression", (name, "brightness"))
    assert [(one.path, one.kind) for one in listing.findings] == [(f"target '{name}'", "row_number")] * is_found


@pytest.mark.parametrize(
    ("cell", "task"),
    [("nan", "auto"), ("", "auto"), ("-inf", "auto"), ("1e39", "auto"), ("ten", "regression"), ("1_00", "regression")],
)
def test_what_is_no_number_is_refused(images, cell, task):
    listing = _table(images, f"path,label\na.png,0.5\nb.png,{cell}\nc.png,2\n", task)
    assert (listing.task, listing.labels.tolist()) == ("regression", [[0.5], [2]])
    assert _found(listing) == {"b.png": ("not_a_number", "row 3")}


def test_what_is_neither_0_nor_1_is_refused(images):
    listing = _table(images, "path,x,y\na.png,0,1\nb.png,1,2\nc.png,1,?\n", "multi_label")
    assert listing.labels.tolist() == [[0, 1]]
    assert _found(listing) == {"b.png": ("not_0_or_1", "row 3"), "c.png": ("not_0_or_1", "row 4")}


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("", "auto", "the first row must name the columns path and label, or path and targets; found: none"),
        ("a.png,cat\nb.png,dog\n", "auto", r"found: a\.png, cat\. Received: 'csv:"),
        ("path\na.png\n", "auto", "found: path"),
        ("path,split\na.png,train\n", "auto", "found: path, split"),
        ("path,x,x\na.png,1,2\n", "auto", "each column needs a name of its own; found: path, x, x"),
        ("path,label\n", "auto", "nothing to learn from 0 rows that can be used, classes: none"),
        ("path,label\na.png,cat\nb.png,cat\n", "auto", "nothing to learn from 2 rows that can be used, classes: cat"),
        ("path,label,set\nx.png,cat,1\ny.png,dog,2\n", "auto", "first of 2 refused: x.png: row 2: no such file"),
        ("path,kind\na.png,cat\nb.png,dog\n", "auto", "a.png: row 2: column kind: 'cat' is no finite number"),
        ("path,label\na.png,\nb.png,\n", "multi_label", "classes: none"),
        ("path,label\na.png,x|y\nb.png,x\n", "single_label", r"--task: cannot be single_label where labels have \|"),
        ("path,x,y\na.png,0,1\n", "single_label", "--task: cannot be single_label where there is no column label"),
    ],
)
def test_tables_that_say_too_little_are_refused(images, text, task, message):
    with pytest.raises(UserError, match=message):
        _table(images, text, task)


def test_what_is_no_text_is_refused(images):
    with pytest.raises(UserError, match="--data: must be UTF-8 text"):
        _table(images, "path,label\na.png,süß\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"--data: no such file \(did you mean 't.csv'\?\)"):
        sources.load(Config(data=f"csv:{images / 't.cvs'}"))
    with pytest.raises(UserError, match="--data: is a folder; a folder of class folders is folder:DIR"):
        sources.load(Config(data=f"csv:{images}"))


def test_a_table_cannot_name_a_folder_above(images):
    (images / "...csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    assert sources.load(Config(data=f"csv:{images / '...csv'}")).name == "data"


def test_a_table_without_end_is_not_read(images):
    with (images / "t.csv").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(UserError, match=r"--data: has more than 1024 MiB. Received"):
        sources.load(Config(data=f"csv:{images / 't.csv'}"))


def test_a_row_that_names_a_pipe_is_refused(images):
    os.mkfifo(images / "pipe.png")
    (found,) = _table(images, "path,label\na.png,cat\nb.png,dog\npipe.png,dog\n").findings
    assert (found.path, found.kind, found.detail) == ("pipe.png", "missing_file", "row 4: is no regular file")


@pytest.mark.parametrize(
    ("each", "task", "found"), [(1, "auto", ["numbers_as_classes"]), (3, "auto", []), (1, "single_label", [])]
)
def test_many_whole_numbers_as_classes_are_named(tmp_path, each, task, found):
    for index in range(12 * each):
        write(tmp_path / f"{index}.png", seed=index)
    rows = "".join(f"{index}.png,{7 * (index // each)}\n" for index in range(12 * each))
    listing = _table(tmp_path, f"path,label\n{rows}", task)
    assert (listing.task, len(listing.classes)) == ("single_label", 12)
    assert [finding.kind for finding in listing.findings] == found
    assert (
        not found
        or listing.findings[0].detail == "12 classes of 12 images; if they are numbers, write --task=regression"
    )


def test_a_label_with_control_characters_is_refused(images):
    with pytest.raises(UserError, match=r"the name of class 'do\\x1bg' is no UTF-8, or holds control characters"):
        _table(images, "path,label\na.png,cat\nb.png,do\x1bg\n")


def test_a_quote_that_is_never_closed_does_not_print_the_table(tmp_path):
    for index in range(4):
        write(tmp_path / f"{index}.png", seed=index)
    rows = ["path,label", "0.png,a", "1.png,b", '"2.png,a', *(f"{index % 2}.png,b" for index in range(3000))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    (finding,) = sources.load(Config(data=f"csv:{tmp_path / 't.csv'}")).findings
    assert len(finding.path) + len(finding.detail) < 250
    (tmp_path / "u.csv").write_text("\n".join([*rows[:3], '2.png,"a', *rows[4:], '"']))
    (finding,) = sources.load(Config(data=f"csv:{tmp_path / 'u.csv'}")).findings
    assert (finding.path, finding.kind) == ("2.png", "broken_row")
    assert "is a quote missing" in finding.detail


@pytest.mark.parametrize(
    "rows",
    ["gone/1.png,cat,test\ngone/2.png,dog,test", "e.png,,test\nf.png,,Testing", ",cat,test", "e.png,Cat,test"],
)
def test_rows_of_test_that_cannot_be_used_are_not_drawn_from_train(images, rows):
    """No file, no label, no path, or a class without training images."""
    text = f"path,label,split\na.png,cat,train\nb.png,dog,train\nc.png,cat,val\nd.png,dog,val\n{rows}\n"
    assert "test" in _table(images, text).named_splits
    with pytest.raises(UserError, match=r"names the test split, and no image of it can be used; in all, \d files? can"):
        splits_of(f"csv:{images / 't.csv'}")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("label", ["0.5", "1.0", "1.5", "n/a"], "most labels are numbers, and 'n/a' is none; write --task=regression"),
        ("label", ["1,5", "0.5", "2.5"], "and '1,5' is none"),
        ("x,y", ["0,1"] * 5 + ["0,2"], "most cells are 0 or 1, and 2 is not; write --task=multi_label"),
    ],
)
def test_a_few_cells_do_not_choose_the_task(tmp_path, header, rows, message):
    rows = [f'"{row}"' if header == "label" else row for row in rows]
    file = tmp_path / "t.csv"
    file.write_text("\n".join([f"path,{header}", *(f"{index}.png,{row}" for index, row in enumerate(rows))]))
    with pytest.raises(UserError, match=message):
        sources.load(Config(data=f"csv:{file}"))


def test_classes_that_are_mostly_words_stay_classes(images):
    listing = _table(images, "path,label\na.png,a\nb.png,b\nc.png,0.5\nd.png,a\n")
    assert listing.task == "single_label"
