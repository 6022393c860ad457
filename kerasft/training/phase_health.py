"""The gradient health of a finished phase: its measurements, and a remedy for each problem."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kerasft.console import console
from kerasft.evaluation import gradient_health
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
    return _finite({"first": first, "last": last, "verdicts": [asdict(verdict) for verdict in found]})


def say(name: str, health: dict[str, Any]) -> None:
    """Prints the verdicts of a phase."""
    for verdict in health.get("verdicts", []):
        blocks = list(verdict["blocks"])
        named = ", ".join(blocks) if len(blocks) <= MAX_NAMED else f"{len(blocks)} blocks, {blocks[0]} to {blocks[-1]}"
        where = f" ({named})" if blocks else ""
        console.say(f"  {name}: {verdict['kind'].replace('_', ' ')}: {verdict['detail']}{where}. {verdict['remedy']}")


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
