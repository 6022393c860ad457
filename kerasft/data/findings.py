"""What is printed of an audit's findings."""

from kerasft.console import console
from kerasft.data.listing import Finding


def show(findings: tuple[Finding, ...], most: int = 20) -> None:
    """Names the files that are left out, then those that look wrong."""
    for verdict, title in (("reject", "left out"), ("warn", "to look at")):
        chosen = [finding for finding in findings if finding.verdict == verdict]
        for finding in chosen[:most]:
            console.say(f"  {title}: {finding.path}: {finding.kind.replace('_', ' ')}: {finding.detail}")
        if len(chosen) > most:
            console.say(f"  ... and {len(chosen) - most} more {title}: see audit.json")
