"""Escapes text in CSV cells, so that a spreadsheet does not run it (owasp.org/www-community/attacks/CSV_Injection)."""

import re

# What a spreadsheet takes for a formula. Leading apostrophes are included, so that the added one can be removed again.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def escape_formula(text: str) -> str:
    """Returns the cell for a text, with an apostrophe before a formula. A number such as the class -1 stays as it is."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_formula(cell: str) -> str:
    """Returns the text of a cell that `escape_formula` has made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
