"""The csv source: a table with one row an image."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from kerasft.data import files
from kerasft.data.listing import SPLIT_ALIASES, SPLITS, Finding, Listing, encode, find_train_classes
from kerasft.data.sources.csv_checks import (
    find_missing_groups,
    find_numbers_as_classes,
    find_row_numbers,
    find_unused_columns,
)
from kerasft.data.sources.csv_labels import Row, parse_labels, resolve_task
from kerasft.data.table_header import RESERVED_COLUMNS, read_header
from kerasft.settings.errors import UserError, did_you_mean, one_of

# A table of more bytes (1 GiB) is not read.
MAX_TABLE_BYTES = 1 << 30


def list_csv(argument: str, task: str, group_column: str = "") -> Listing:
    """Lists the images of a table (RFC 4180): UTF-8, with a header; the delimiter is a comma, a semicolon or a tab.

    Column `path` is absolute, or relative to the folder of the table, with `/` or the `\\` of Windows. Column `split` is
    optional; a row without a split belongs to train. The columns decide what the labels are:

    - With a column `label`, other columns are not used, which is a finding. The task is multi-label if any cell has a `|` between names;
      regression if all cells are numbers and some are not whole; single-label otherwise.
    - Without it, each other column that has a name is a target. The task is multi-label if there are several targets and
      all are 0 or 1; regression otherwise. A single target of only 0 and 1 is a finding.

    Under multi-label, an empty label means that no class is present. Otherwise it is rejected. Each row that cannot be
    used is a finding.

    Args:
        argument: what follows `csv:`.
        task: `--task`; `auto` follows these rules, any other value replaces them.
        group_column: the column of the groups, which is no target; empty for none. An image without a group is one of
            its own.

    Raises:
        UserError: no such file, a header without the needed columns, labels that contradict `task`, or no usable row.
    """
    file = files.expand(argument, "--data")
    received = f"Received: 'csv:{argument}'"
    if not argument or not file.is_file():
        siblings = [path.name for path in file.parent.iterdir()] if argument and file.parent.is_dir() else []
        if argument and file.is_dir():
            tables = ", ".join(sorted(path.name for path in file.glob("*.csv"))[:5]) or "none"
            rule = f"is a folder; a folder of class folders is folder:DIR, a table is csv:FILE (in it: {tables})"
            raise UserError(f"--data: {rule}. {received}")
        raise UserError(f"--data: no such file{did_you_mean(file.name, siblings)}. {received}")
    findings: list[Finding] = []
    try:
        files.check(file, MAX_TABLE_BYTES)
        with file.open(encoding="utf-8-sig", newline="") as lines:
            targets, rows, named_splits = _read_rows(lines, file.name, findings, group_column)
    except (OSError, ValueError, csv.Error) as error:
        reason = "must be UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(f"--data: {reason}. {received}") from None
    has_label = targets == ["label"]
    is_open, task = task == "auto", resolve_task([row.cells for row in rows], has_label, task)
    # A row without a label does not keep a later one of the same file out.
    pairs = parse_labels(list(_drop_missing(rows, file.parent, findings)), targets, task, findings)
    pairs = list(_drop_duplicates(pairs, task, findings))
    classes = targets
    if has_label and task != "regression":
        train_classes, unknown = find_train_classes([label for _, label in pairs], [row.split for row, _ in pairs])
        for index, name in unknown.items():
            findings.append(pairs[index][0].reject("class_not_in_train", f"class '{name}' has no training image"))
        classes, pairs = sorted(train_classes), [pair for index, pair in enumerate(pairs) if index not in unknown]
    if is_open and task == "single_label":
        findings += find_numbers_as_classes(classes, len(pairs))
    if not has_label and task == "regression":
        findings += find_row_numbers(targets, [label for _, label in pairs])
    if is_open and task == "regression" and len(targets) == 1 and all(label[0] in (0, 1) for _, label in pairs):
        detail = (
            "all values are 0 or 1 and are predicted as numbers (regression); --task=multi_label gives probabilities"
        )
        findings.append(Finding(f"target '{targets[0]}'", "binary_target", "warn", detail))
    if not pairs or len(classes) < (2 if task == "single_label" else 1):
        usable = f"{len(pairs)} rows that can be used, classes: {', '.join(classes) or 'none'}"
        refused = [finding for finding in findings if finding.verdict == "reject"]
        first = f"; first of {len(refused)} refused: {refused[0].path}: {refused[0].detail}" if refused else ""
        raise UserError(f"--data: nothing to learn from {usable}{first}. {received}")
    if group_column:
        findings += find_missing_groups(group_column, [row.path for row, _ in pairs], [row.group for row, _ in pairs])
    paths = [file.parent / row.path for row, _ in pairs]
    return Listing(
        name=file.stem,
        task=task,
        ids=np.array([row.path for row, _ in pairs]),
        labels=encode([label for _, label in pairs], classes, task),
        split_names=np.array([row.split for row, _ in pairs], dtype="<U5"),
        classes=tuple(classes),
        read=lambda index: files.read(paths[index]),
        findings=tuple(findings),
        named_splits=frozenset(named_splits),
        groups=np.array([row.group or f"/{row.path}" for row, _ in pairs]) if group_column else None,
    )


def _read_rows(
    lines: TextIO, name: str, findings: list[Finding], group_column: str
) -> tuple[list[str], list[Row], set[str]]:
    """Returns the columns that hold the label, the rows of the right width with a path and a valid split, and the splits of all rows.

    Raises:
        ValueError: the header lacks a column, or names one twice.
        UserError: it lacks the column of the groups.
    """
    columns, reader = read_header(lines)
    names = ", ".join(filter(None, columns)) or "none"
    if group_column and (group_column not in columns or group_column in ("path", "label", "split")):
        rule = f"must be a column of the table other than path, label and split{did_you_mean(group_column, columns)}"
        raise UserError(f"--group_column: {rule}; found: {names}. Received: {group_column!r}")
    targets = (
        ["label"]
        if "label" in columns
        else [column for column in columns if column not in ("", group_column, *RESERVED_COLUMNS)]
    )
    if "path" not in columns or not targets:
        raise ValueError(f"the first row must name the columns path and label, or path and targets; found: {names}")
    if any(columns.count(column) > 1 for column in ("path", "split", *targets, *filter(None, [group_column]))):
        raise ValueError(f"each column needs a name of its own; found: {names}")
    rows, named_splits = [], set()
    for number, cells in enumerate(reader, 2):
        if not any(cells):
            continue
        cell = dict(zip(columns, cells))
        row = Row(number, cell.get("path") or name, "train", [cell.get(target, "").strip() for target in targets])
        row = row._replace(group=cell.get(group_column, "").strip())
        split = cell.get("split", "").strip().lower()
        named_splits |= {SPLIT_ALIASES[split]} if split in SPLIT_ALIASES else set()
        if len(cells) != len(columns):
            delimiter = reader.dialect.delimiter
            rule = f"{len(cells)} cells under {len(columns)} columns (a {delimiter!r} inside a cell needs quotes around it)"
            findings.append(row.reject("broken_row", rule))
        elif any("\n" in text or "\r" in text for text in (cell["path"], *row.cells)):
            findings.append(row.reject("broken_row", "a cell goes over several lines: is a quote missing or too many?"))
        elif not cell["path"]:
            findings.append(row.reject("no_path", "the path is empty"))
        elif split and split not in SPLIT_ALIASES:
            findings.append(row.reject("unknown_split", f"must be {one_of(SPLIT_ALIASES)}, not '{split}'"))
        else:
            rows.append(row._replace(split=SPLIT_ALIASES.get(split, "train")))
    unknown = next((finding for finding in findings if finding.kind == "unknown_split"), None)
    # Else such a split would be drawn from the rows of train.
    if unknown and not {*SPLITS} <= {row.split for row in rows}:
        missing = next(split for split in SPLITS if split not in {row.split for row in rows})
        raise ValueError(f"no row belongs to {missing}, and {unknown.path}: {unknown.detail}")
    if targets == ["label"]:
        findings += find_unused_columns(name, columns, (group_column, *RESERVED_COLUMNS))
    return targets, rows, named_splits


def _drop_missing(rows: list[Row], folder: Path, findings: list[Finding]) -> Iterator[Row]:
    """Yields the rows whose file exists; adds findings for the others."""
    for row in rows:
        row = row._replace(path=files.with_slashes(folder, row.path))
        if os.path.isfile(folder / row.path):
            yield row
        else:
            rule = "is no regular file" if os.path.exists(folder / row.path) else "no such file"
            findings.append(row.reject("missing_file", rule))


def _drop_duplicates(pairs: list[tuple[Row, list]], task: str, findings: list[Finding]) -> Iterator[tuple[Row, list]]:
    """Yields the first row of each file with its label; adds findings for the others."""
    first: dict[str, tuple[Row, list]] = {}
    for pair in pairs:
        row, label = pair
        earlier, known = first.setdefault(os.path.normpath(row.path), pair)
        if earlier is row:
            yield pair
        # `a|b` and `b|a` are the same labels.
        elif set(known) != set(label) if task == "multi_label" else known != label:
            rule = f"row {earlier.number} gives it another label (several labels are written a|b)"
            findings.append(row.reject("conflicting_label", rule))
        elif earlier.split != row.split:
            findings.append(row.reject("duplicate_across_splits", f"row {earlier.number} has it in {earlier.split}"))
        else:
            findings.append(row.reject("duplicate", f"row {earlier.number} has it already"))
