"""The first row of a table, and the delimiter that it shows."""

import csv
from typing import TextIO

# Columns with a meaning of their own. All other columns may be targets.
RESERVED_COLUMNS = ("path", "label", "split")


def read_header(lines: TextIO) -> tuple[list[str], "csv._reader"]:
    """Returns the names of the columns (`path`, `label` and `split` in lower case), and a reader of the rows below."""
    try:
        delimiter = csv.Sniffer().sniff(lines.readline(), ",;\t").delimiter
    except csv.Error:  # there is a single column
        delimiter = ","
    lines.seek(0)
    # Rows are counted as a spreadsheet does: an empty line is a row, a cell of two lines is in one row.
    reader = csv.reader(lines, delimiter=delimiter)
    header = [column.strip() for column in next(reader, [])]
    return [column.lower() if column.lower() in RESERVED_COLUMNS else column for column in header], reader
