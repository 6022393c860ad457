"""The tables of the documents, as tests read them."""

import re

from conftest import ROOT


def first_cells(page: str) -> set[str]:
    """What stands in backquotes in the first column of the tables of a page of docs/."""
    rows = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}
