"""Prints the findings of an audit."""

from kerasft.console import console
from kerasft.data.listing import Finding

# What is shown first, because it makes scores wrong.
_GRAVE_KINDS = ("leak", "duplicate_across_splits", "conflicting_label")


def show(findings: tuple[Finding, ...], max_lines: int = 20) -> None:
    """Prints the files that are left out, then those that look wrong, at most `max_lines` of each."""
    for verdict, title in (("reject", "left out"), ("warn", "to look at")):
        chosen = [finding for finding in findings if finding.verdict == verdict]
        chosen.sort(key=lambda finding: finding.kind not in _GRAVE_KINDS)
        for finding in chosen[:max_lines]:
            console.say(f"  {title}: {finding.path}: {finding.kind.replace('_', ' ')}: {finding.detail}")
        if len(chosen) > max_lines:
            console.say(f"  ... and {len(chosen) - max_lines} more {title}: see audit.json")
