"""The state of a run: all that a stopped run needs to go on, apart from the weights."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kerasft.settings.errors import UserError
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training.phase_record import PhaseRecord

# Version of what `to_json` writes.
VERSION = 3


@dataclass
class TrainState:
    """How far a run has come.

    Attributes:
        run: an identifier, which the export bears.
        data_digest: digest of the splits.
        resolved: what `auto` resolved.
        records: of the finished phases.
        phase: index of the phase under way; all attributes below are of this phase.
        epoch: finished epochs.
        step: finished steps of the epoch under way.
        seconds: spent in the phase.
        initial_score: loss and score on validation at its start.
        best_score: loss and score on validation after its best epoch; None before the first finite one.
        first_loss: of the first batch.
        losses: on validation, one an epoch.
        is_losing: whether the phase was found to lose before its end, under `stop_if_losing`.
        micro_batches: in how many parts a step is done, where it does not fit into memory.
        lr_backoffs: times that training diverged and went on at a lower rate.
        optimizer_start: steps of the phase that were done before its optimizer was made: 0, until a fallback.
        health: the first and the last measurement of its gradients (`health_probe`), as far as it has got.
        history_rows: rows of `history.jsonl`.
        saves: checkpoints written.
        spent: seconds of the run until its last checkpoint, in all starts, with what comes before training.
    """

    run: str
    data_digest: str
    resolved: ResolvedSettings
    records: list[PhaseRecord] = field(default_factory=list)
    phase: int = 0
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    initial_score: tuple[float, float] | None = None
    best_score: tuple[float, float] | None = None
    first_loss: float | None = None
    losses: list[float] = field(default_factory=list)
    is_losing: bool = False
    micro_batches: int = 1
    lr_backoffs: int = 0
    optimizer_start: int = 0
    health: list[dict[str, Any]] = field(default_factory=list)
    history_rows: int = 0
    saves: int = 0
    spent: float = 0.0

    @property
    def phase_seconds(self) -> float:
        """Seconds of the phases so far."""
        return sum(record.seconds for record in self.records) + self.seconds

    def after(self, record: PhaseRecord) -> "TrainState":
        """The state at the start of the next phase."""
        kept = {"history_rows": self.history_rows, "saves": self.saves, "spent": self.spent}
        records = [*self.records, record]
        return TrainState(self.run, self.data_digest, self.resolved, records, self.phase + 1, **kept)

    def position(self, planned: list[Phase]) -> str:
        """Where the run stands among its phases, in words."""
        if self.phase == len(planned):
            return "all phases are done"
        phase = planned[self.phase]
        text = f"phase {self.phase + 1} of {len(planned)} ({phase.strategy})"
        if not phase.epochs:
            return text
        if self.epoch == phase.epochs:
            return f"{text}, after its last epoch"
        text += f", epoch {self.epoch + 1} of {phase.epochs}"
        return text + (f", after {self.step} step{'s' * (self.step != 1)} of it" if self.step else "")

    def to_json(self) -> dict[str, Any]:
        """The state as JSON."""
        rows = [record.state() for record in self.records]
        return asdict(self) | {"version": VERSION, "records": rows, "resolved": self.resolved.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainState":
        """The state that `to_json` gave.

        Raises:
            UserError: another version of kerasft wrote it.
        """
        if values.get("version") != VERSION:
            rule = f"the run was stopped by another version of kerasft; start again with --noresume (state {VERSION})"
            raise UserError(f"--run_dir: {rule}. Received: state {values.get('version', 1)}")
        # A state from before these were measured goes on without them.
        later = ("health", "spent")
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values or item.name not in later}
        known["resolved"] = ResolvedSettings.from_json(values["resolved"])
        known["records"] = [PhaseRecord.from_state(row) for row in values["records"]]
        for name in ("initial_score", "best_score"):
            known[name] = tuple(known[name]) if known[name] else None
        return cls(**known)
