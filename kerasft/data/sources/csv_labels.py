"""The labels of the csv source: which task the cells of a table mean, and what each row says."""

import math
import os
import re
from typing import NamedTuple, NoReturn

import numpy as np

from kerasft.data.listing import Finding
from kerasft.settings.errors import UserError

# A finding shows at most so many letters of a path: a quote that is never closed takes in the rest of the table.
_MAX_PATH_LETTERS = 80
# A target must not be larger: it is stored as float32.
_MAX_TARGET = float(np.finfo(np.float32).max)

# Where fewer labels than this share are no numbers, they are taken for mistakes in a table of numbers; and where fewer cells of
# several targets are other than 0 and 1, for mistakes in a table of labels.
MAX_SHARE_OF_TEXTS, MAX_SHARE_OF_OTHER_NUMBERS = 0.5, 0.1
# A number as it is written in many countries.
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        number: of the row; the header is row 1.
        path: as written.
        split: `train`, `val` or `test`.
        cells: of the label, or of the targets.
        group: of `--group_column`; empty without.
    """

    number: int
    path: str
    split: str
    cells: list[str]
    group: str = ""

    def reject(self, kind: str, detail: str) -> Finding:
        """Returns the finding that rejects this row."""
        is_short = len(self.path) <= _MAX_PATH_LETTERS or os.path.isfile(self.path)
        path = self.path if is_short else f"{self.path[:_MAX_PATH_LETTERS]}..."
        return Finding(path, kind, "reject", f"row {self.number}: {detail}")


def resolve_task(cells: list[list[str]], has_label: bool, task: str) -> str:
    """Returns the task: `--task`, or under `auto` by the rules of `list_csv`.

    Raises:
        UserError: the labels contradict `--task`.
    """
    texts = [text for row in cells for text in row if text]
    has_bar = has_label and any("|" in text for text in texts)
    if task == "single_label" and (has_bar or not has_label):
        form = "labels have | between names" if has_bar else "there is no column label"
        raise UserError(f"--task: cannot be single_label where {form}. Received: 'single_label'")
    if task != "auto":
        return task
    for column in zip(*cells):
        filled = [text for text in column if text]
        commas = [text for text in filled if _DECIMAL_COMMA.fullmatch(text)]
        if 2 * len(commas) <= len(filled):
            continue
        first = commas[0]
        rule = f"labels such as {first!r} have a decimal comma; write {first.replace(',', '.')}"
        if all(_THOUSANDS.fullmatch(text) for text in commas):
            rule = (
                f"labels such as {first!r} have a comma; write {first.replace(',', '')}, or {first.replace(',', '.')}"
            )
        raise UserError(f"--task: {rule}{', or --task=single_label' if has_label else ''}. Received: 'auto'")
    numbers = [_parse_number(text) for text in texts]
    if has_label:
        has_fractions = any(n is not None and math.isfinite(n) and not n.is_integer() for n in numbers)
        others = [text for text, number in zip(texts, numbers) if number is None]
        if has_fractions and not has_bar and 0 < len(others) < MAX_SHARE_OF_TEXTS * len(texts):
            _refuse_mixture(f"most labels are numbers, and {others[0]!r} is none", "regression", "single_label")
        return "multi_label" if has_bar else "regression" if has_fractions and not others else "single_label"
    if not cells or len(cells[0]) < 2:
        return "regression"
    others = [n for n in numbers if n is not None and math.isfinite(n) and n not in (0, 1)]
    if 0 < len(others) < MAX_SHARE_OF_OTHER_NUMBERS * len(texts):
        _refuse_mixture(f"most cells are 0 or 1, and {others[0]:g} is not", "multi_label", "regression")
    return "regression" if others else "multi_label"


def _refuse_mixture(fault: str, *tasks: str) -> NoReturn:
    """Raises UserError where a few cells would turn the whole table into another task."""
    rule = f"{fault}; write --task={tasks[0]}, which leaves such rows out, or --task={tasks[1]}"
    raise UserError(f"--task: {rule}. Received: 'auto'")


def _parse_number(text: str) -> float | None:
    """Returns the number in a cell, which may be NaN or infinite; None for other text."""
    # Python would read 1_00 as 100.
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def parse_labels(rows: list[Row], targets: list[str], task: str, findings: list[Finding]) -> list[tuple[Row, list]]:
    """Returns the rows with a valid label, each with its class names, or its numbers under regression."""
    has_label, pairs = targets == ["label"], []
    for row in rows:
        numbers = [_parse_number(text) for text in row.cells]
        if task == "single_label":
            kind, label = "no_label", [text for text in row.cells if text]
            rule = None if label else "the label is empty"
        elif task == "multi_label" and has_label:
            kind, rule, label = "", None, [name.strip() for name in row.cells[0].split("|") if name.strip()]
        elif task == "multi_label":
            kind, label = "not_0_or_1", [target for target, number in zip(targets, numbers) if number]
            rule = _find_bad_cell(row, targets, [number in (0, 1) for number in numbers], "is neither 0 nor 1")
        else:
            kind, label = "not_a_number", numbers
            rule = _find_bad_cell(
                row, targets, [n is not None and abs(n) <= _MAX_TARGET for n in numbers], "is no finite number"
            )
        if rule:
            findings.append(row.reject(kind, rule))
        else:
            pairs.append((row, label))
    return pairs


def _find_bad_cell(row: Row, targets: list[str], valid: list[bool], rule: str) -> str | None:
    """Returns the rule for the first cell that is not valid, with its column and its text; None if all are valid."""
    return next((f"column {t}: '{c}' {rule}" for t, c, fine in zip(targets, row.cells, valid) if not fine), None)
