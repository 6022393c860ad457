"""Tables: odd names and texts come through in each form, and no more than a few stretches are in memory."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasft.data import csv_escaping
from kerasft.predict import table_files
from kerasft.predict.predictions import Prediction

ODD = ["a,b.jpg", 'c"d.jpg', "e\nf.jpg", "käfer.jpg", "bad\udcff.jpg"]
ERROR = Prediction(error="line\nbreak \udcff")


def written(form: str, tmp_path, parts: list[tuple[list[str], list[Prediction]]], task: str, names: list[str]) -> bytes:
    chunks = []
    for index, (paths, rows) in enumerate(parts):
        place = tmp_path / f"{index}.stretch"
        with place.open("wb") as file:
            table_files.save_chunk(rows, file)
        assert table_files.is_complete(place, len(rows))
        assert not table_files.is_complete(place, len(rows) + 1)
        chunks.append((paths, place))
    assert table_files.count_failures(chunks) == sum(row.error is not None for _, rows in parts for row in rows)
    file = io.BytesIO()
    table_files.make_writer(form, chunks, task, names)(file)
    return file.getvalue()


def test_odd_names_come_through(tmp_path):
    row = Prediction("single_label", ["x|y", "z"], np.float32([0.1, 0.05]), np.float32([0.1, 0.05, 0.02]))
    parts = [(ODD, [row, ERROR, row, row, row])]
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in ODD]
    text = written(".csv", tmp_path, parts, "single_label", []).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["path", "class", "score", "error"]
    assert [cells[0] for cells in rows[1:]] == shown
    assert rows[1][1:] == ["x|y", str(float(np.float32(0.1))), ""]
    assert rows[2][1:] == ["", "", "line\nbreak \\udcff"]
    lines = [json.loads(line) for line in written(".jsonl", tmp_path, parts, "single_label", []).splitlines()]
    assert [line["path"] for line in lines] == ODD
    table = pq.read_table(io.BytesIO(written(".parquet", tmp_path, parts, "single_label", ["x|y", "z", "w"])))
    assert table["path"].to_pylist() == shown
    assert table["probabilities"].to_pylist()[0] == np.float32([0.1, 0.05, 0.02]).tolist()


ROWS = {
    "single_label": Prediction("single_label", ["a"], np.float32([0.5]), np.float32([0.5])),
    "multi_label": Prediction("multi_label", ["a"], np.float32([0.5]), np.float32([0.5])),
    "regression": Prediction("regression", ["a"], np.float32([0.5])),
    "": ERROR,
}


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("task", list(ROWS))
def test_a_table_is_known_again(form, task, tmp_path):
    path = tmp_path / f"o{form}"
    path.touch()
    # Made by `mktemp`: there is nothing to lose.
    assert table_files.is_table(path)
    names = ["a"] if task else []
    path.write_bytes(written(form, tmp_path, [(["x,\n.jpg"], [ROWS[task]])], task, names))
    assert table_files.is_table(path)


OTHERS = {
    "hand.csv": "path,label\na.jpg,cat\n",
    "bytes.csv": b"\xff\xfe\x00",
    "blank.csv": "\n",
    "hand.jsonl": '{"path": "a.jpg", "labels": ["cat"]}\n',
    "one.jsonl": '{"path": "a.jpg", "label": "cat"}\n',
    "list.jsonl": "[1]\n",
    "text.jsonl": "text",
    "text.parquet": "PAR1 text PAR1",
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_another_file_is_no_table(name, tmp_path):
    content = OTHERS[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not table_files.is_table(tmp_path / name)


def test_another_parquet_file_is_no_table(tmp_path):
    pq.write_table(pa.table({"path": ["a.jpg"], "label": ["cat"]}), tmp_path / "hand.parquet")
    assert not table_files.is_table(tmp_path / "hand.parquet")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_a_spreadsheet_runs_no_cell(tmp_path, start):
    """Names of files, classes and targets, and what is said of an image; numbers stay numbers."""
    evil = f'{start}HYPERLINK("http://x", "y")'
    single = Prediction("single_label", [evil], np.float32([0.5]), np.float32([0.5]))
    several = Prediction("multi_label", [evil, "b"], np.float32([0.5, 0.4]), np.float32([0.5, 0.4]))
    values = Prediction("regression", [evil], np.float32([-0.5]))
    for row, task in ((single, "single_label"), (several, "multi_label"), (values, "regression")):
        content = written(".csv", tmp_path, [([evil, "q"], [row, Prediction(error=evil)])], task, [evil]).decode()
        head, first, second = csv.reader(io.StringIO(content, newline=""))
        assert first[0] == second[-1] == f"'{evil}"
        assert not [cell for cell in head + first + second if cell.startswith(start) and cell != "-0.5"]
        assert (head[1] if task == "regression" else first[1]).startswith(f"'{start}")
    assert first[1] == "-0.5"
    lines = written(".jsonl", tmp_path, [([evil], [single])], "single_label", []).decode()
    assert json.loads(lines)["path"] == evil


def test_a_class_that_is_a_number_stays_one(tmp_path):
    rows = [
        Prediction("single_label", [name], np.float32([1]), np.float32([1])) for name in ("-1", "+1", "-1e-3", "-1+1")
    ]
    content = written(".csv", tmp_path, [(list("abcd"), rows)], "single_label", []).decode()
    assert [line.split(",")[1] for line in content.splitlines()[1:]] == ["-1", "+1", "-1e-3", "'-1+1"]


@pytest.mark.parametrize("text", ["=a", "'=a", "''=a", "'a", "a", "", "-1", "'-1", "-a'"])
def test_a_cell_can_be_read_back(text):
    assert csv_escaping.unescape_formula(csv_escaping.escape_formula(text)) == text


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("task", ["", "single_label", "multi_label", "regression"])
def test_nothing_but_errors_is_a_table_too(form, task, tmp_path):
    content = written(form, tmp_path, [(["a"], [ERROR])], task, ["t"])
    if form == ".parquet":
        assert pq.read_table(io.BytesIO(content))["error"].to_pylist() == ["line\nbreak \\udcff"]
    else:
        assert b"break" in content


def test_no_label_present_is_no_error(tmp_path):
    none = Prediction("multi_label", [], np.float32([]), np.float32([0.1, 0.2]))
    two = Prediction("multi_label", ["b", "a"], np.float32([0.9, 0.8]), np.float32([0.8, 0.9]))
    parts = [(["p", "q", "r"], [none, two, ERROR])]
    assert written(".csv", tmp_path, parts, "multi_label", []).splitlines()[:3] == [
        b"path,labels,error",
        b"p,,",
        b"q,b|a,",
    ]
    table = pq.read_table(io.BytesIO(written(".parquet", tmp_path, parts, "multi_label", [])))
    assert table["labels"].to_pylist() == [[], ["b", "a"], None]
    first = json.loads(written(".jsonl", tmp_path, parts, "multi_label", []).splitlines()[0])
    assert first == {"path": "p", "labels": []}


def test_a_target_is_not_taken_for_another_column(tmp_path):
    row = Prediction("regression", ["path", "error"], np.float32([1, 2]))
    content = written(".csv", tmp_path, [(["p"], [row])], "regression", ["path", "error"])
    assert content.splitlines() == [b"path,path (target),error (target),error", b"p,1.0,2.0,"]


def test_parquet_is_written_in_groups(tmp_path, monkeypatch):
    """Each as soon as it is large enough, so that memory does not grow with the table."""
    monkeypatch.setattr(table_files, "_ROW_GROUP_BYTES", 1 << 14)
    row = Prediction("single_label", ["x"], np.float32([1]), np.zeros(100, np.float32))
    parts = [([f"{i}/{j}" for j in range(64)], [row] * 64) for i in range(6)]
    found = pq.ParquetFile(io.BytesIO(written(".parquet", tmp_path, parts, "single_label", [])))
    assert found.num_row_groups == 6
    assert found.read()["path"].to_pylist() == [name for names, _ in parts for name in names]


def test_the_first_answer_tells_the_kind(tmp_path):
    parts = [[ERROR], [ERROR, Prediction("regression", ["t"], np.float32([1]))]]
    chunks = []
    for index, rows in enumerate(parts):
        with (tmp_path / str(index)).open("wb") as file:
            table_files.save_chunk(rows, file)
        chunks.append(([], tmp_path / str(index)))
    assert table_files.read_task_and_names(chunks) == ("regression", ["t"])
    assert table_files.read_task_and_names(chunks[:1]) == ("", [])
