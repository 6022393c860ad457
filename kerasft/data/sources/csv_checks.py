"""What a table may mean otherwise than it is read: columns that are not used, numbers of rows, numbers as classes,
groups that are missing.
"""

from collections import Counter
from collections.abc import Sequence

from kerasft.console import wording
from kerasft.data.class_names import MISSING_LABELS
from kerasft.data.listing import Finding

# Names of columns that number the rows, in lower case. pandas writes the last.
_ROW_NUMBERS = ("id", "index", "unnamed: 0")
# What tables have in place of a missing group, in lower case.
_MISSING_GROUPS = (*MISSING_LABELS, "unknown")
# Fewer rows, or classes, may have consecutive numbers by chance.
_MIN_NUMBERS = 10
# Names that a finding lists.
_MAX_NAMES = 10


def find_unused_columns(table: str, columns: Sequence[str], used: Sequence[str]) -> list[Finding]:
    """Returns a finding of the columns that have a name and are not used, or none.

    Args:
        table: name of the file.
    """
    unused = [column for column in columns if column and column not in used]
    if not unused:
        return []
    names = ", ".join(unused[:_MAX_NAMES]) + ", ..." * (len(unused) > _MAX_NAMES)
    return [Finding(table, "unused_column", "warn", f"{names}; a column that names the split is called split")]


def find_row_numbers(targets: Sequence[str], labels: Sequence[list[float]]) -> list[Finding]:
    """Returns a finding for each target of a regression that seems to number the rows."""
    found = []
    for target, values in zip(targets, zip(*labels)):
        lowest = min(values)
        counts_up = len(values) >= _MIN_NUMBERS and sorted(values) == [lowest + i for i in range(len(values))]
        if target.lower() in _ROW_NUMBERS or (counts_up and float(lowest).is_integer()):
            detail = "is learned as a target, and seems to number the rows; if so, remove the column"
            found.append(Finding(f"target '{target}'", "row_number", "warn", detail))
    return found


def find_numbers_as_classes(classes: Sequence[str], images: int) -> list[Finding]:
    """Returns a finding where the classes are whole numbers with at most two images each on average, or none."""
    if len(classes) < _MIN_NUMBERS or images > 2 * len(classes) or not all(map(str.isdecimal, classes)):
        return []
    detail = f"{len(classes)} classes of {images} images; if they are numbers, write --task=regression"
    return [Finding("column label", "numbers_as_classes", "warn", detail)]


def find_missing_groups(column: str, paths: Sequence[str], groups: Sequence[str]) -> list[Finding]:
    """Returns a finding of the images without a group, and one for each group whose name says that there is none.

    Args:
        column: `--group_column`.
        paths, groups: of each image; an empty group is none.
    """
    counts, findings = Counter(groups), []
    for name, count in counts.items():
        if not name:
            detail = f"--group_column={column} is empty for {wording.count(count, 'image')}, each a group of its own"
            findings.append(Finding(paths[groups.index(name)], "group", "warn", detail))
        # A single image is a group of its own anyway.
        elif count > 1 and name.casefold() in _MISSING_GROUPS:
            detail = f"--group_column={column}: {count} images are one group '{name}'; if it says that a group is missing, leave the cells empty"
            findings.append(Finding(paths[groups.index(name)], "group", "warn", detail))
    return findings
