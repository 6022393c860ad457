"""Text in the cells of a CSV file: a spreadsheet shows it, and does not run it (owasp.org/www-community/attacks/CSV_Injection)."""

import re

# What a spreadsheet takes for a formula. Apostrophes before it count, so that the one that is added can be told.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def safe(text: str) -> str:
    """The cell for a text: an apostrophe goes before what would be run.

    A text that is a number, such as the class -1, stays as it is.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def meant(cell: str) -> str:
    """The text of a cell that `safe` has given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
