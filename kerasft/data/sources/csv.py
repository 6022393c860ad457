"""The csv source: a table with one row a picture."""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from kerasft.data import files
from kerasft.data.listing import SPLIT_NAMES, Finding, Listing, encode, train_classes
from kerasft.settings.errors import UserError, did_you_mean

MAX_BYTES = 1 << 30  # of a table
_COLUMNS = ("path", "label", "split")
_LONGEST = 80  # letters of a path that a finding shows; a quote that is never closed takes in the whole table
_LARGEST = float(np.finfo(np.float32).max)


class _Row(NamedTuple):
    """A row's number (the header is row 1), its path as written, its split, and the cells of its label."""

    number: int
    path: str
    part: str
    cells: list[str]

    def refused(self, kind: str, detail: str) -> Finding:
        path = self.path if len(self.path) <= _LONGEST or os.path.isfile(self.path) else f"{self.path[:_LONGEST]}..."
        return Finding(path, kind, "reject", f"row {self.number}: {detail}")


def table(argument: str, task: str) -> Listing:
    """Lists the pictures of a table (RFC 4180): UTF-8, with a header, parted by comma, semicolon or tab.

    Column `path` is relative to the table's folder, or absolute; column `split` may be missing, and what has no split
    is train. What the label is depends on the columns:

    - With a column `label` (others are ignored) it is multi-label if any cell has a `|` between names; else regression
      if all are numbers and not all are whole; else single-label.
    - Without, each other column that has a name is a target: multi-label if there are several and all are 0 or 1, else
      regression.

    An empty label is no label present under multi-label, and refused otherwise. A row that cannot be used is a finding.

    Args:
        argument: what follows `csv:`.
        task: `--task`; `auto` follows these rules, any other stands in their place.

    Raises:
        UserError: no such file, a header without what is needed, labels that contradict `task`, or nothing to learn.
    """
    file = Path(argument).expanduser()
    received = f"Received: 'csv:{argument}'"
    if not argument or not file.is_file():
        beside = [path.name for path in file.parent.iterdir()] if argument and file.parent.is_dir() else []
        if argument and file.is_dir():
            tables = ", ".join(sorted(path.name for path in file.glob("*.csv"))[:5]) or "none"
            rule = f"no such file, for it is a folder; one of class folders is folder:DIR, a table is csv:FILE (in it: {tables})"
            raise UserError(f"--data: {rule}. {received}")
        raise UserError(f"--data: no such file{did_you_mean(file.name, beside)}. {received}")
    findings: list[Finding] = []
    try:
        files.check(file, MAX_BYTES)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            targets, rows = _rows(lines, file.name, findings)
    except (OSError, ValueError, csv.Error) as error:
        reason = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(f"--data: {reason}. {received}") from None
    named = targets == ["label"]
    task = _task([row.cells for row in rows], named, task)
    rows = list(_once(_found(rows, file.parent, findings), findings))
    pairs = _labelled(rows, targets, task, findings)
    classes = targets
    if named and task != "regression":
        known, unknown = train_classes([label for _, label in pairs], [row.part for row, _ in pairs])
        for index, name in unknown.items():
            findings.append(pairs[index][0].refused("class_not_in_train", f"class '{name}' has no training picture"))
        classes, pairs = sorted(known), [pair for index, pair in enumerate(pairs) if index not in unknown]
    if not pairs or len(classes) < (2 if task == "single_label" else 1):
        found = f"{len(pairs)} rows that can be used, classes: {', '.join(classes) or 'none'}"
        first = f"; first of {len(findings)} refused: {findings[0].path}: {findings[0].detail}" if findings else ""
        raise UserError(f"--data: nothing to learn from {found}{first}. {received}")
    paths = [file.parent / row.path for row, _ in pairs]
    return Listing(
        name=file.stem,
        task=task,
        ids=np.array([row.path for row, _ in pairs]),
        labels=encode([label for _, label in pairs], classes, task),
        parts=np.array([row.part for row, _ in pairs], dtype="<U5"),
        classes=tuple(classes),
        read=lambda index: files.read(paths[index]),
        findings=tuple(findings),
    )


def parted(lines: TextIO) -> tuple[list[str], "csv._reader"]:
    """The names of a table's columns (`path`, `label` and `split` in lower case), and a reader of the rows below."""
    try:
        delimiter = csv.Sniffer().sniff(lines.readline(), ",;\t").delimiter
    except csv.Error:  # a single column
        delimiter = ","
    lines.seek(0)
    # Rows are counted as a spreadsheet does: an empty line is one, a cell of two lines is none.
    reader = csv.reader(lines, delimiter=delimiter)
    header = [column.strip() for column in next(reader, [])]
    return [column.lower() if column.lower() in _COLUMNS else column for column in header], reader


def _rows(lines: TextIO, name: str, findings: list[Finding]) -> tuple[list[str], list[_Row]]:
    """The columns that hold the label, and the rows of the right width with a path and a known split.

    Raises:
        ValueError: with what the header lacks.
    """
    columns, reader = parted(lines)
    found = ", ".join(filter(None, columns)) or "none"
    targets = ["label"] if "label" in columns else [column for column in columns if column not in ("", *_COLUMNS)]
    if "path" not in columns or not targets:
        raise ValueError(f"the first row must name the columns path and label, or path and targets; found: {found}")
    if any(columns.count(column) > 1 for column in ("path", "split", *targets)):
        raise ValueError(f"each column needs a name of its own; found: {found}")
    rows = []
    for number, cells in enumerate(reader, 2):
        if not any(cells):
            continue
        cell = dict(zip(columns, cells))
        row = _Row(number, cell.get("path") or name, "train", [cell.get(target, "").strip() for target in targets])
        part = cell.get("split", "").strip().lower()
        if len(cells) != len(columns):
            delimiter = reader.dialect.delimiter
            rule = f"{len(cells)} cells under {len(columns)} columns (a {delimiter!r} inside a cell needs quotes around it)"
            findings.append(row.refused("broken_row", rule))
        elif any("\n" in text or "\r" in text for text in (cell["path"], *row.cells)):
            findings.append(
                row.refused("broken_row", "a cell goes over several lines: is a quote missing or too many?")
            )
        elif not cell["path"]:
            findings.append(row.refused("no_path", "the path is empty"))
        elif part and part not in SPLIT_NAMES:
            findings.append(row.refused("unknown_split", f"must be train, val or test, not '{part}'"))
        else:
            rows.append(row._replace(part=SPLIT_NAMES.get(part, "train")))
    return targets, rows


def _task(cells: list[list[str]], named: bool, task: str) -> str:
    """What the labels are, by the rules of `table`, or what `--task` makes of them.

    Raises:
        UserError: they cannot be that.
    """
    texts = [text for row in cells for text in row if text]
    parted = named and any("|" in text for text in texts)
    if task == "single_label" and (parted or not named):
        form = "labels have | between names" if parted else "there is no column label"
        raise UserError(f"--task: cannot be single_label where {form}. Received: 'single_label'")
    if task != "auto":
        return task
    numbers = [_number(text) for text in texts]
    if named:
        fractions = None not in numbers and any(math.isfinite(n) and not n.is_integer() for n in numbers)
        return "multi_label" if parted else "regression" if fractions else "single_label"
    flags = len(cells[0]) > 1 if cells else False
    return (
        "multi_label"
        if flags and {n for n in numbers if n is not None and math.isfinite(n)} <= {0, 1}
        else "regression"
    )


def _number(text: str) -> float | None:
    """The number that a cell holds, NaN and infinity among them, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def _found(rows: list[_Row], folder: Path, findings: list[Finding]) -> Iterator[_Row]:
    """The rows whose file is there."""
    for row in rows:
        if os.path.isfile(folder / row.path):
            yield row
        else:
            rule = "is no regular file" if os.path.exists(folder / row.path) else "no such file"
            findings.append(row.refused("missing_file", rule))


def _once(rows: Iterable[_Row], findings: list[Finding]) -> Iterator[_Row]:
    """Each file once, in the row that names it first."""
    first: dict[str, _Row] = {}
    for row in rows:
        earlier = first.setdefault(os.path.normpath(row.path), row)
        if earlier is row:
            yield row
        elif earlier.cells != row.cells:
            rule = f"row {earlier.number} gives it another label (several labels are written a|b)"
            findings.append(row.refused("conflicting_label", rule))
        elif earlier.part != row.part:
            findings.append(row.refused("duplicate_across_splits", f"row {earlier.number} has it in {earlier.part}"))
        else:
            findings.append(row.refused("duplicate", f"row {earlier.number} has it already"))


def _labelled(rows: list[_Row], targets: list[str], task: str, findings: list[Finding]) -> list[tuple[_Row, list]]:
    """The rows whose label can be read, each with its class names, or its numbers under regression."""
    named, pairs = targets == ["label"], []
    for row in rows:
        numbers = [_number(text) for text in row.cells]
        if task == "single_label":
            kind, label = "no_label", [text for text in row.cells if text]
            rule = None if label else "the label is empty"
        elif task == "multi_label" and named:
            kind, rule, label = "", None, [name.strip() for name in row.cells[0].split("|") if name.strip()]
        elif task == "multi_label":
            kind, label = "not_0_or_1", [target for target, number in zip(targets, numbers) if number]
            rule = _first(row, targets, [number in (0, 1) for number in numbers], "is neither 0 nor 1")
        else:
            kind, label = "not_a_number", numbers
            rule = _first(row, targets, [n is not None and abs(n) <= _LARGEST for n in numbers], "is no finite number")
        if rule:
            findings.append(row.refused(kind, rule))
        else:
            pairs.append((row, label))
    return pairs


def _first(row: _Row, targets: list[str], good: list[bool], rule: str) -> str | None:
    """What is wrong with the first cell that is not good."""
    return next((f"column {t}: '{c}' {rule}" for t, c, fine in zip(targets, row.cells, good) if not fine), None)
