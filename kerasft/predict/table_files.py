"""Tables of answers: one form in which stretches wait, and the three in which a user gets them.

A waiting stretch is a Parquet file of `Prediction`, the same columns for every task and with float32 as it came. From those the
table is written stretch by stretch, so that no more than a few are in memory.
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

from kerasft.predict.cells import safe
from kerasft.predict.predictions import Prediction

_NUMBERS = pa.list_(pa.float32())
_WAITING = pa.schema(
    [
        ("task", pa.string()),
        ("names", pa.list_(pa.string())),
        ("numbers", _NUMBERS),
        ("probabilities", _NUMBERS),
        ("error", pa.string()),
    ]
)
_GROUP = 1 << 24  # bytes of a row group of the finished Parquet file, about
Chunk = tuple[list[str], Path]  # the names of its pictures, and the file that holds what is said of them


def save(rows: list[Prediction], file: BinaryIO) -> None:
    """Writes what is said of a stretch, to wait for the others."""
    columns = [[getattr(row, name) for row in rows] for name in _WAITING.names]
    columns[-1] = [error and _utf8(error) for error in columns[-1]]
    arrays = [pa.array(column, item.type) for column, item in zip(columns, _WAITING)]
    pq.write_table(pa.table(arrays, schema=_WAITING), file)


def whole(path: Path, count: int) -> bool:
    """Whether a stretch is there, and of so many pictures."""
    try:
        return pq.read_metadata(path).num_rows == count
    except (OSError, pa.ArrowInvalid):
        return False


def kind(chunks: Iterable[Chunk]) -> tuple[str, list[str]]:
    """Task and names of the first answer; empty where there is none."""
    for _, path in chunks:
        table = pq.read_table(path, columns=["task", "names"])
        good = table.filter(pc.is_valid(table["task"]))
        if len(good):
            return good["task"][0].as_py(), good["names"][0].as_py()
    return "", []


def failures(chunks: Iterable[Chunk]) -> int:
    """How many pictures have an error."""
    return sum(pc.count(pq.read_table(path, columns=["error"])["error"]).as_py() for _, path in chunks)


def writer(form: str, chunks: list[Chunk], task: str, names: list[str]) -> Callable[[BinaryIO], None]:
    """What writes the finished table into a file.

    Args:
        form: `.csv`: `path,class,score,error`; of several labels `path,labels,error`, parted by `|`; or a column a
            target; text as `cells.safe` gives it. `.jsonl`: `path` with `labels`, `values` or `error`. `.parquet`: `path`, `class` and `score`, or
            lists `labels` and `scores`, with `probabilities` of all classes; or a float column a target; and `error`.
        task: of the model.
        names: of the classes in the order of `probabilities`, as far as known; or of the targets.
    """
    write = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[form]
    return lambda file: write(file, chunks, task, names)


def _csv(file: BinaryIO, chunks: list[Chunk], task: str, names: list[str]) -> None:
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    table = csv.writer(text)
    middle = {"regression": _targets(names), "multi_label": ["labels"]}.get(task, ["class", "score"])
    table.writerow(["path", *map(safe, middle), "error"])
    for path, row in _rows(chunks):
        if row.error is not None:
            cells = [""] * len(middle)
        elif task == "regression":
            cells = row.numbers
        else:
            cells = ["|".join(row.names)] if task == "multi_label" else [row.names[0], row.numbers[0]]
            cells[0] = safe(cells[0])
        table.writerow([safe(path), *cells, safe(row.error or "")])
    text.detach()


def _jsonl(file: BinaryIO, chunks: list[Chunk], task: str, names: list[str]) -> None:
    for path, row in _rows(chunks):
        metadata: dict = {"path": path}
        if row.error is not None:
            metadata["error"] = row.error
        elif task == "regression":
            metadata["values"] = dict(zip(row.names, row.numbers))
        else:
            metadata["labels"] = [{"class": name, "score": score} for name, score in zip(row.names, row.numbers)]
        file.write((json.dumps(metadata) + "\n").encode())


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
            if sum(part.nbytes for part in waiting) > _GROUP:
                table.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            table.write_table(pa.concat_tables(waiting))


def _columns(task: str, names: list[str]) -> list[tuple[str, pa.DataType, Callable[[pa.Table], pa.ChunkedArray]]]:
    """Name and type of each column between `path` and `error`, and how it is made of a waiting stretch."""
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
    """Names of the columns of values; a target must not be taken for another column of the table."""
    return [f"{name} (target)" if name in ("path", "error") else name for name in names]


def _rows(chunks: list[Chunk]) -> Iterator[tuple[str, Prediction]]:
    """Each path, and what is said of it but the probabilities."""
    for paths, place in chunks:
        table = pq.read_table(place, columns=["task", "names", "numbers", "error"])
        for path, row in zip(paths, table.to_pylist()):
            yield path, Prediction(**row)


def _utf8(text: str) -> str:
    """Text without the lone surrogates of a file name that is no UTF-8; Parquet takes none."""
    return text.encode("utf-8", "backslashreplace").decode()
