"""Names of classes that are probably one class, or none: `Cat` beside `cat`, `1` beside `1.0`, and `nan`."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from kerasft.data.listing import Finding
from kerasft.settings.errors import UserError

# How tables write that a label is missing.
_MISSING = ("nan", "none", "null", "n/a", "na", "?")


def find_odd(classes: Sequence[str], received: str) -> list[Finding]:
    """Returns a finding `similar_classes` for each class that is written like an earlier one, and `missing_label` for `nan` and the like.

    Args:
        classes: the names.
        received: `--data`, for the message.

    Raises:
        UserError: two names look the same, but have other code points (Unicode NFC and NFD, as of macOS and Linux).
    """
    looks, meanings = defaultdict(list), defaultdict(list)
    for name in classes:
        looks[unicodedata.normalize("NFC", name)].append(name)
        meanings[_meaning(name)].append(name)
    for look, names in looks.items():
        if len(names) > 1:
            rule = f"{len(names)} classes are all called {look!r}, in different Unicode forms (NFC, NFD); give them one name"
            raise UserError(f"--data: {rule}. Received: {received!r}")
    found = []
    for first, *others in meanings.values():
        for name in others:
            detail = f"is a class beside '{first}'; if both are one class, give them one name"
            found.append(Finding(name, "similar_classes", "warn", detail))
    for name in classes:
        if name.strip().casefold() in _MISSING:
            detail = "is the name of a class; if it says that a label is missing, leave these images out"
            found.append(Finding(name, "missing_label", "warn", detail))
    return found


def _meaning(name: str) -> str | float:
    """What two names have in common that a person would read as one."""
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    try:
        # Python reads 1_0 as 10.
        return float(text.replace("_", "?"))
    except ValueError:
        return " ".join(text.replace("_", " ").replace("-", " ").split()) or text
