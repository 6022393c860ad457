"""The gradient health of a finished phase: its measurements, and a remedy for each problem."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kerasft.console import console
from kerasft.evaluation import gradient_health
from kerasft.storage import run_folder
from kerasft.training.health_probe import Measurement

# So many blocks are named; of more, the first and the last.
MAX_NAMED = 3


def conclude(measurements: Sequence[Measurement], backoffs: int) -> dict[str, Any]:
    """The entry of a phase in `gradient_health`: `first` and `last` measurement, and `verdicts`; empty for none.

    Args:
        measurements: the first and the last of the phase.
        backoffs: times that training diverged and went on at a lower rate.
    """
    if not measurements:
        return {}
    first, last = measurements[0], measurements[-1]
    found = gradient_health.verdicts(first, last, backoffs)
    return run_folder.finite({"first": first, "last": last, "verdicts": [asdict(verdict) for verdict in found]})


def say(name: str, health: dict[str, Any]) -> None:
    """Prints the verdicts of a phase."""
    for verdict in health.get("verdicts", []):
        blocks = list(verdict["blocks"])
        named = ", ".join(blocks) if len(blocks) <= MAX_NAMED else f"{len(blocks)} blocks, {blocks[0]} to {blocks[-1]}"
        where = f" ({named})" if blocks else ""
        console.say(f"  {name}: {verdict['kind'].replace('_', ' ')}: {verdict['detail']}{where}. {verdict['remedy']}")
