"""What a table may mean otherwise than it is read: columns that are not used."""

from collections.abc import Sequence

from kerasft.data.listing import Finding

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
