"""Tables of predictions: the format of saved chunks, and the three formats of the finished table.

A chunk is a Parquet file of `Prediction`, with the same columns for every task. The finished table is written chunk by
chunk, so that only a few of them are in memory.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kerasft.data.csv_escaping import escape_formula
from kerasft.predict.predictions import Prediction

_NUMBERS = pa.list_(pa.float32())
_CHUNK_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("names", pa.list_(pa.string())),
        ("numbers", _NUMBERS),
        ("probabilities", _NUMBERS),
        ("error", pa.string()),
    ]
)
# A row group of the finished Parquet file has about so many bytes.
_ROW_GROUP_BYTES = 1 << 24
# The names of a chunk's images, and the file of their predictions.
Chunk = tuple[list[str], Path]


def save_chunk(rows: list[Prediction], file: BinaryIO) -> None:
    """Writes the predictions of a chunk."""
    columns = [[getattr(row, name) for row in rows] for name in _CHUNK_SCHEMA.names]
    columns[-1] = [error and _utf8(error) for error in columns[-1]]
    arrays = [pa.array(column, item.type) for column, item in zip(columns, _CHUNK_SCHEMA)]
    pq.write_table(pa.table(arrays, schema=_CHUNK_SCHEMA), file)


def is_complete(path: Path, count: int) -> bool:
    """Whether the file of a chunk exists and has `count` rows."""
    try:
        return pq.read_metadata(path).num_rows == count
    except (OSError, pa.ArrowInvalid):
        return False


def read_task_and_names(chunks: Iterable[Chunk]) -> tuple[str, list[str]]:
    """Returns task and names of the first prediction without an error. Empty if there is none."""
    for _, path in chunks:
        table = pq.read_table(path, columns=["task", "names"])
        good = table.filter(pc.is_valid(table["task"]))
        if len(good):
            return good["task"][0].as_py(), good["names"][0].as_py()
    return "", []


def count_failures(chunks: Iterable[Chunk]) -> int:
    """Returns the number of images with an error."""
    return sum(pc.count(pq.read_table(path, columns=["error"])["error"]).as_py() for _, path in chunks)


def make_writer(form: str, chunks: list[Chunk], task: str, names: list[str]) -> Callable[[BinaryIO], None]:
    """Returns a function that writes the finished table to a file.

    Args:
        form: `.csv`: `path,class,score,error`; for multi_label `path,labels,error` with labels separated by `|`; for
            regression a column for each target. Text is escaped by `cells.escape_formula`. `.jsonl`: `path` with
            `labels`, `values` or `error`. `.parquet`: `path`, `class` and `score`, or for multi_label the
            lists `labels` and `scores`, with `probabilities` of all classes; for regression a float column for each
            target; and `error`.
        task: of the model.
        names: of the classes in the order of `probabilities`, as far as known; or of the targets.
    """
    write = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[form]
    return lambda file: write(file, chunks, task, names)


def is_table(path: Path) -> bool:
    """Whether a file may be replaced by a table of its kind: it is one that `make_writer` has written, or empty."""
    try:
        if not path.is_file() or path.stat().st_size == 0:
            return path.is_file()
        if path.suffix == ".parquet":
            return _is_head(pq.read_schema(path).names)
        with path.open(newline="", encoding="utf-8") as file:
            return _is_head(next(csv.reader(file))) if path.suffix == ".csv" else _is_line(json.loads(file.readline()))
    except (OSError, ValueError, csv.Error):
        return False


def _is_head(columns: list[str]) -> bool:
    return columns[:1] == ["path"] and columns[-1] == "error"


def _is_line(line: object) -> bool:
    """Whether this is a line of `_jsonl`. Labels by hand would be plain text."""
    kinds = {"labels": list, "values": dict, "error": str}
    if not isinstance(line, dict) or len(line) != 2 or "path" not in line:
        return False
    name, found = next(item for item in line.items() if item[0] != "path")
    return isinstance(found, kinds.get(name, ())) and (name != "labels" or all(isinstance(one, dict) for one in found))


def _csv(file: BinaryIO, chunks: list[Chunk], task: str, names: list[str]) -> None:
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    table = csv.writer(text)
    middle = {"regression": _targets(names), "multi_label": ["labels"]}.get(task, ["class", "score"])
    table.writerow(["path", *map(escape_formula, middle), "error"])
    for path, row in _rows(chunks):
        if row.error is not None:
            cells = [""] * len(middle)
        elif task == "regression":
            cells = row.numbers
        else:
            cells = ["|".join(row.names)] if task == "multi_label" else [row.names[0], row.numbers[0]]
            cells[0] = escape_formula(cells[0])
        table.writerow([escape_formula(path), *cells, escape_formula(row.error or "")])
    text.detach()


def _jsonl(file: BinaryIO, chunks: list[Chunk], task: str, names: list[str]) -> None:
    for path, row in _rows(chunks):
        line: dict = {"path": path}
        if row.error is not None:
            line["error"] = row.error
        elif task == "regression":
            line["values"] = dict(zip(row.names, row.numbers))
        else:
            line["labels"] = [{"class": name, "score": score} for name, score in zip(row.names, row.numbers)]
        file.write((json.dumps(line) + "\n").encode())


def _parquet(file: BinaryIO, chunks: list[Chunk], task: str, names: list[str]) -> None:
    waiting: list[pa.Table] = []
    columns = _columns(task, names)
    schema = pa.schema([("path", pa.string()), *((name, type_) for name, type_, _ in columns), ("error", pa.string())])
    if task != "regression" and names:
        schema = schema.with_metadata({"classes": json.dumps(names)})  # in the order of `probabilities`
    with pq.ParquetWriter(file, schema) as table:
        for paths, place in chunks:
            found = pq.read_table(place)
            arrays = [pa.array(map(_utf8, paths), pa.string()), *(make(found) for _, _, make in columns)]
            waiting.append(pa.table([*arrays, found["error"]], schema=schema))
            if sum(part.nbytes for part in waiting) > _ROW_GROUP_BYTES:
                table.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            table.write_table(pa.concat_tables(waiting))


def _columns(task: str, names: list[str]) -> list[tuple[str, pa.DataType, Callable[[pa.Table], pa.ChunkedArray]]]:
    """Returns name and type of each column between `path` and `error`, and the function that makes it from a chunk."""
    if task == "regression":
        return [(name, pa.float32(), _element("numbers", i)) for i, name in enumerate(_targets(names))]
    every = ("probabilities", _NUMBERS, lambda table: table["probabilities"])
    if task == "multi_label":
        labels = ("labels", pa.list_(pa.string()), lambda table: table["names"])
        return [labels, ("scores", _NUMBERS, lambda table: table["numbers"]), every]
    return [("class", pa.string(), _element("names", 0)), ("score", pa.float32(), _element("numbers", 0)), every]


def _element(column: str, index: int) -> Callable[[pa.Table], pa.ChunkedArray]:
    return lambda table: pc.list_element(table[column], index)


def _targets(names: list[str]) -> list[str]:
    """Returns the names of the targets' columns. A target may not have the name of another column."""
    return [f"{name} (target)" if name in ("path", "error") else name for name in names]


def _rows(chunks: list[Chunk]) -> Iterator[tuple[str, Prediction]]:
    """Yields each path with its prediction, without the probabilities."""
    for paths, place in chunks:
        table = pq.read_table(place, columns=["task", "names", "numbers", "error"])
        for path, row in zip(paths, table.to_pylist()):
            yield path, Prediction(**row)


def _utf8(text: str) -> str:
    """Returns text without lone surrogates, which a file name that is no UTF-8 has and Parquet refuses."""
    return text.encode("utf-8", "backslashreplace").decode()
