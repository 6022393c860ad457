"""Prints the findings of an audit."""

from kerasft.console import console
from kerasft.data.listing import Finding

# What is shown first, in this order: what is wrong with the whole set, then what makes scores wrong.
_GRAVE_KINDS = ("unknown_folder", "unknown_split", "missing_class", "no_positive", "row_number", "numbers_as_classes")
_GRAVE_KINDS += ("joined_labels", "binary_target", "subfolders", "unused_column", "leak", "duplicate_across_splits")
_GRAVE_KINDS += ("conflicting_label",)
_RANKS = {kind: rank for rank, kind in enumerate(_GRAVE_KINDS)}


def show(findings: tuple[Finding, ...], max_lines: int = 20, whole_list: str = "see audit.json") -> None:
    """Prints the files that are left out, then those that look wrong, at most `max_lines` of each, the gravest first.

    Args:
        whole_list: where the others are.
    """
    for verdict, title in (("reject", "left out"), ("warn", "to look at")):
        chosen = [finding for finding in findings if finding.verdict == verdict]
        chosen.sort(key=lambda finding: _RANKS.get(finding.kind, len(_RANKS)))
        for finding in chosen[:max_lines]:
            console.say(f"  {title}: {finding.path}: {finding.kind.replace('_', ' ')}: {finding.detail}")
        if len(chosen) > max_lines:
            console.say(f"  ... and {len(chosen) - max_lines} more {title}: {whole_list}")
