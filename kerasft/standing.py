"""How far a run has come."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Standing:
    """How far a run has come: all but the arrays of what a checkpoint holds.

    Attributes:
        run: an identifier, which the export bears.
        data: digest of the splits.
        settled: what `auto` chose: the `--augment` Spec, and the `speed` that it measured.
        records: one dict a finished phase, as in `metrics.json`.
        phase, epoch, step: index of the phase under way, its epochs that are done, and the steps of the next one.
        seconds: spent in it.
        before, best: loss and score on validation at its start, and after its best epoch.
        first_loss: of its first batch.
        losses: on validation after each of its epochs.
        retries: times that it fell back to its best weights at a lower rate.
        history: lines of `history.jsonl`.
    """

    run: str
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
    losses: list[float] = field(default_factory=list)
    retries: int = 0
    history: int = 0
