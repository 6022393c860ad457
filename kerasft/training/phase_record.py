"""What is recorded of a finished phase: `record.json`, and a row of `phases` in `metrics.json`."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kerasft.console import console
from kerasft.console.wording import kept_weights

# What is said of a phase without epochs: it solved the head, which nothing undoes, or left the weights as they were.
SOLVED = "the solved head, which is always kept"
UNTRAINED = "nothing was trained, for it has no epochs"


@dataclass(frozen=True)
class PhaseRecord:
    """One finished phase.

    Attributes:
        name: number and strategy, such as `02-all`.
        spec: the phase as `--phases` takes it.
        seconds: that it took, earlier starts and the building of a cache included.
        epochs: that were done.
        images_per_second: of training.
        score: name of the score, such as `accuracy`.
        initial, final: loss and score on validation before the phase, and of what was kept.
        alpha: fraction of the phase's weights that was kept; 0 where it was undone.
        temperature: that the logits were divided by.
        views: cached augmentations of each image; 0 where nothing was cached.
        trainable_parameters, frozen_parameters: their numbers.
        lr_backoffs: times that training diverged and went on at a lower rate.
        refused: of an undone phase, what was judged (`weight_interpolation.KeptWeights`); None where nothing was.
        health: what `gradient_health` of `metrics.json` says of the phase; empty where nothing was measured.
    """

    name: str
    spec: str
    seconds: float
    epochs: int
    images_per_second: float
    score: str
    initial: tuple[float, float]
    final: tuple[float, float]
    alpha: float
    temperature: float
    views: int
    trainable_parameters: int
    frozen_parameters: int
    lr_backoffs: int
    refused: dict[str, float] | None = None
    health: dict[str, Any] = field(default_factory=dict)

    def sentence(self, title: str) -> str:
        """What is left of the phase, in one sentence.

        Args:
            title: of the score, in words.
        """
        format_metric = console.format_metric
        (loss, score), needed = self.final, ""
        if self.refused:
            loss, score = self.refused["loss"], self.refused["score"]
            mix = kept_weights(self.refused["share"]).removesuffix(" kept")
            needed = f" with {mix} (needed: {format_metric(self.refused['needed'])})"
        losses = f"validation loss {format_metric(self.initial[0])} -> {format_metric(loss)}{needed}"
        without_epochs = SOLVED if self.alpha else UNTRAINED
        kept = kept_weights(self.alpha) if self.epochs else without_epochs
        return f"{kept}: {losses}, {title} {format_metric(self.initial[1])} -> {format_metric(score)}"

    def to_json(self) -> dict[str, Any]:
        """The row of `metrics.json`, whose keys other programs rely on."""
        row = {"name": self.name, "spec": self.spec, "seconds": self.seconds, "epochs": self.epochs}
        row |= {"images_per_second": self.images_per_second}
        row |= {"val_before": self.initial[0], "val_after": self.final[0]}
        row |= {f"val_{self.score}_before": self.initial[1], f"val_{self.score}_after": self.final[1]}
        row |= {"accepted": self.alpha > 0, "share": self.alpha, "temperature": self.temperature}
        row |= {"refused": self.refused}
        row |= {"cached": self.views > 0, "views": self.views}
        return row | {
            "trainable": self.trainable_parameters,
            "frozen": self.frozen_parameters,
            "retries": self.lr_backoffs,
        }

    def state(self) -> dict[str, Any]:
        """All fields, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> "PhaseRecord":
        """The record that `state` gave."""
        known = {item.name for item in fields(cls)}
        pairs = {name: tuple(values[name]) for name in ("initial", "final")}
        return cls(**{name: value for name, value in values.items() if name in known} | pairs)
