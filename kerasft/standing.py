"""How far a run has come."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Standing:
    """How far a run has come: all but the arrays of what a checkpoint holds.

    Attributes:
        data: digest of the splits.
        settled: what `auto` chose: the `--augment` Spec, and the `speed` that it measured.
        records: one dict a finished phase, as in `metrics.json`.
        phase, epoch, step: index of the phase under way, its epochs that are done, and the steps of the next one.
        seconds: spent in it.
        before, best: loss and score on validation at its start, and after its best epoch.
        first_loss: of its first batch.
        waited, level: epochs since its best one, and since its rate was last lowered.
        retries: times that it fell back to its best weights at a lower rate.
        history: lines of `history.jsonl`.
    """

    data: str
    settled: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    phase: int = 0
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    before: tuple[float, float] | None = None
    best: tuple[float, float] | None = None
    first_loss: float | None = None
    waited: int = 0
    level: int = 0
    retries: int = 0
    history: int = 0
