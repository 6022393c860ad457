"""The gradient health of a report: what `gradient_health` of `metrics.json` says of each phase, as text."""

from collections.abc import Callable
from typing import Any

from kerasft.console.wording import NOT_MEASURED, number, percent

# So many blocks of a verdict are named; of more, the first and the last.
MAX_NAMED = 3


def phases(health: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns for each measured phase its `name`, its `verdicts`, and a row for each of its `blocks`."""
    return [
        {
            "name": name,
            "verdicts": [_verdict(verdict) for verdict in found["verdicts"]],
            "blocks": [
                _row(block, found["first"]["blocks"].get(block, {}), row)
                for block, row in found["last"]["blocks"].items()
            ],
        }
        for name, found in health.items()
    ]


def _verdict(verdict: dict[str, Any]) -> dict[str, str]:
    blocks = verdict["blocks"]
    where = ", ".join(blocks) if len(blocks) <= MAX_NAMED else f"{len(blocks)} blocks, {blocks[0]} to {blocks[-1]}"
    return {
        "kind": verdict["kind"].replace("_", " "),
        "where": where,
        **{key: verdict[key] for key in ("detail", "remedy")},
    }


def _row(name: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    update = after["update"]
    return {
        "name": name,
        "gradient": _change(before.get("gradient"), after["gradient"], number),
        "step": NOT_MEASURED if update is None else f"{update:.1e}".replace("-", "−"),
        "scale": _change(before.get("scale"), after["scale"], number),
        "dead": _change(before.get("dead"), after["dead"], lambda share: percent(share, 0)),
    }


def _change(before: float | None, after: float | None, shown: Callable[[float | None], str]) -> str:
    return NOT_MEASURED if before is None and after is None else f"{shown(before)} → {shown(after)}"
