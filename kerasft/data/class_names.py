"""Class names that probably mean the same class (`Cat` and `cat`, `1` and `1.0`), a missing label (`nan`), or several (`cat,dog`)."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from kerasft.data.listing import Finding
from kerasft.settings.errors import UserError

# What tables have in place of a missing label, in lower case.
MISSING_LABELS = ("nan", "none", "null", "n/a", "na", "?")
# What people write between several labels. kerasft's own `|` never stands in a class name of a table.
_SEPARATORS = re.compile("[,;/+&]")


def find_suspicious(classes: Sequence[str], received: str) -> list[Finding]:
    """Returns a finding `similar_classes` for each class that a person would read as an earlier one, `missing_label` for `nan` and the like, and `joined_labels` for names of other classes in one.

    Args:
        classes: the names.
        received: the value of `--data`, for the message.

    Raises:
        UserError: two names look the same and are encoded differently (Unicode NFC and NFD; macOS and Linux differ).
    """
    names_by_nfc, names_by_key = defaultdict(list), defaultdict(list)
    for name in classes:
        names_by_nfc[unicodedata.normalize("NFC", name)].append(name)
        names_by_key[_comparison_key(name)].append(name)
    for shown, names in names_by_nfc.items():
        if len(names) > 1:
            rule = f"{len(names)} classes are all called {shown!r}, in different Unicode forms (NFC, NFD); give them one name"
            raise UserError(f"--data: {rule}. Received: {received!r}")
    found = []
    for first, *others in names_by_key.values():
        for name in others:
            detail = f"is a class beside '{first}'; if both are one class, give them one name"
            found.append(Finding(name, "similar_classes", "warn", detail))
    known = set(classes)
    for name in classes:
        if name.strip().casefold() in MISSING_LABELS:
            detail = "is the name of a class; if it says that a label is missing, leave these images out"
            found.append(Finding(name, "missing_label", "warn", detail))
        parts = [part.strip() for part in _SEPARATORS.split(name) if part.strip()]
        if len(parts) > 1 and known.issuperset(parts):
            named = " and ".join(map(repr, parts))
            detail = f"is a class of its own beside {named}; several labels are written {'|'.join(parts)}"
            found.append(Finding(name, "joined_labels", "warn", detail))
    return found


def _comparison_key(name: str) -> str | float:
    """Equal for names that a person would read as one: without case, outer spaces, `_`, `-` and the format of numbers."""
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    try:
        # Python would read 1_0 as 10.
        return float(text.replace("_", "?"))
    except ValueError:
        # A name of nothing but `_` or `-` stays itself.
        return " ".join(text.replace("_", " ").replace("-", " ").split()) or text
