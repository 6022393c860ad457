"""The trainer: for each phase apply, compile, fit, and keep what is better on validation.

After every epoch the whole state is saved, so that the same command goes on where a run was stopped.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft import augment, evaluate, losses, optimizers, phases, runs, screen, warmstart
from kerasft import spec as specs
from kerasft.config import Config
from kerasft.data import pipeline
from kerasft.data.splits import Splits
from kerasft.errors import UserError
from kerasft.model import Network
from kerasft.phases import Phase

BATCH = 64  # pictures a step in evaluation
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a phase's weights in the mixes with those before it that are tried
LEAST_GAIN = 1e-3  # of the validation loss before a phase, for anything of it to be kept

Weights = list[np.ndarray]


@dataclass
class Standing:
    """How far a run has come: all but the arrays of what a checkpoint holds.

    Attributes:
        data: digest of the splits.
        augment: the `--augment` Spec, settled.
        records: one dict a finished phase, as in `metrics.json`.
        phase, epoch: index of the phase under way and the epochs of it that are done.
        seconds: spent in it.
        before, best: log loss and accuracy on validation at its start, and after its best epoch.
        history: lines of `history.jsonl`.
    """

    data: str
    augment: str
    records: list[dict[str, Any]]
    phase: int = 0
    epoch: int = 0
    seconds: float = 0.0
    before: tuple[float, float] | None = None
    best: tuple[float, float] | None = None
    history: int = 0


class Trainer:
    """One training run: a network, its data, its folder, and how far it has come."""

    def __init__(self, config: Config, network: Network, splits: Splits, folder: Path):
        self.config, self.network, self.splits, self.folder = config, network, splits, folder
        self.model = network.model
        self.checkpoint = folder / "checkpoint.npz"
        self.batch = min(config.batch_size, len(splits.train))
        self.steps = pipeline.steps_per_epoch(len(splits.train), self.batch)
        self._predict = evaluate.predictor(network.model)

    def train(self) -> list[dict[str, Any]]:
        """Runs the phases that are left; returns the records of all.

        Raises:
            UserError: from `--phases`, or where the data have changed under a stopped run.
        """
        planned, reason = phases.plan(self.config, self.network, len(self.splits.train))
        screen.say(f"phases: {reason}")
        arrays = self._resume() or self._begin(augmented=any(phase.epochs for phase in planned))
        planned = [self._settled(phase) for phase in planned]
        screen.show_phases([(phase, *phases.apply(self.network, phase)) for phase in planned])
        self.history = runs.History(self.folder / "history.jsonl", self.standing.history)
        for index in range(self.standing.phase, len(planned)):
            first_epoch = sum(phase.epochs for phase in planned[:index])
            self._run(index, planned[index], first_epoch, arrays)
            arrays = {}
        phases.release(self.network)
        return self.standing.records

    def validate(self) -> tuple[float, float]:
        """Log loss and accuracy on the validation split, with the weights as they are."""
        logits, labels = self._validation_logits(), self.splits.val.labels
        return evaluate.log_loss(logits, labels), evaluate.accuracy(logits, labels)

    def validate_tempered(self) -> tuple[tuple[float, float], float]:
        """What `validate` gives, and the log loss at the best temperature: epochs are compared by that."""
        logits, labels = self._validation_logits(), self.splits.val.labels
        score = evaluate.log_loss(logits, labels), evaluate.accuracy(logits, labels)
        return score, evaluate.log_loss(logits / evaluate.temperature(logits, labels), labels)

    def _validation_logits(self) -> np.ndarray:
        return self._predict(pipeline.evaluation_stream(self.splits.val, size=self.network.size, batch_size=BATCH))

    def _begin(self, *, augmented: bool) -> dict[str, Weights]:
        start = warmstart.prepare(self.config, self.network, self.splits, augmented=augmented)
        self.standing = Standing(self.splits.digest, start.augment, [], seconds=start.seconds)
        return {"solution": list(start.solution)} if start.solution else {}

    def _resume(self) -> dict[str, Weights] | None:
        state = runs.load_state(self.checkpoint)
        if state is None:
            return None
        arrays, notes = state
        self.standing = Standing(**notes)
        if self.standing.data != self.splits.digest:
            rule = (
                f"the pictures have changed since the run in '{self.folder}' was stopped; start again with --noresume"
            )
            raise UserError(f"--data: {rule}. Received: '{self.config.data}'")
        _assign(self.model.variables, arrays.pop("variables"))
        screen.say(f"going on with phase {self.standing.phase + 1} after {self.standing.epoch} of its epochs")
        return arrays

    def _settled(self, phase: Phase) -> Phase:
        automatic = [str(spec) for spec in phase.augment] == ["auto"]
        return replace(phase, augment=specs.parse(self.standing.augment, "--augment")) if automatic else phase

    def _run(self, index: int, phase: Phase, first_epoch: int, arrays: dict[str, Weights]) -> None:
        """Runs one phase to its end and adds its record.

        Args:
            arrays: of the checkpoint, in the phase that a resumed run goes on with; the probe's `solution` in
                the first phase of a new one.
        """
        standing, name = self.standing, f"{index + 1:02d}-{phase.kind}"
        trainable, frozen = phases.apply(self.network, phase)
        self.started = time.monotonic() - standing.seconds
        if not standing.epoch:
            standing.before = self.validate()
            self.first_weights = self.best_weights = self.model.get_weights()
            if "solution" in arrays:
                self.model.get_layer("logits").set_weights(arrays["solution"])
                self.offer(self.validate())
        else:
            self.first_weights, self.best_weights = arrays["first"], arrays["best"]
        if phase.epochs > standing.epoch:
            self._fit(name, phase, first_epoch, arrays.get("optimizer"))
        share, temperature, after = self._keep(SHARES if phase.epochs else (1.0,))
        seconds, before = time.monotonic() - self.started, standing.before
        record = {"name": name, "spec": str(phase), "seconds": round(seconds, 3), "epochs": phase.epochs}
        record |= {"images_per_second": round(phase.epochs * self.steps * self.batch / seconds, 1)}
        record |= {"val_before": before[0], "val_after": after[0]}
        record |= {"val_accuracy_before": before[1], "val_accuracy_after": after[1]}
        record |= {
            "accepted": share > 0,
            "share": share,
            "temperature": temperature,
            "cached": False,
            "trainable": trainable,
            "frozen": frozen,
        }
        verdict = {0.0: "undone", 1.0: "kept"}.get(share, f"kept to {share:.0%} beside the weights before it")
        screen.say(
            f"{name}: {verdict}; validation loss {before[0]:.4f} -> {after[0]:.4f}, "
            f"accuracy {before[1]:.4f} -> {after[1]:.4f}; {seconds:.1f} s"
        )
        place = self.folder / "phases" / name
        runs.write_json(place / "record.json", record)
        runs.write_by_name(place / "model.weights.h5", self.model.save_weights)
        self.standing = Standing(standing.data, standing.augment, [*standing.records, record], index + 1)
        self.standing.history = self.history.lines
        self.save({})

    def _fit(self, name: str, phase: Phase, first_epoch: int, optimizer_state: Weights | None) -> None:
        done, steps = self.standing.epoch, self.steps
        optimizer = optimizers.build(phase.optimizer, phase.schedule, phase.lr, steps * phase.epochs)
        optimizer.build(self.model.trainable_variables)
        if optimizer_state:
            _assign(optimizer.variables, optimizer_state)
        self.model.compile(optimizer, losses.build(phase.loss), jit_compile=False)
        layer = augment.build(phase.augment)
        if not layer.stateless:
            screen.say("note: Keras augmentation layers draw numbers of their own: no exact resume, no equal runs")
        stream = pipeline.training_stream(
            self.splits.train,
            size=self.network.size,
            batch_size=self.batch,
            augment=layer,
            seed=self.config.seed,
            first_step=(first_epoch + done) * steps,
            last_step=(first_epoch + phase.epochs) * steps,
        )
        bar = screen.Bar(name, phase.epochs, done, steps)
        callbacks = [_EpochEnd(self, name, first_epoch), bar]
        if self.config.tensorboard:
            folder = self.folder / "tensorboard" / name
            callbacks.append(keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0))
        span = {"initial_epoch": done, "epochs": phase.epochs, "steps_per_epoch": steps}
        try:
            self.model.fit(stream, **span, callbacks=callbacks, shuffle=False, verbose=0)
        finally:
            bar.stop()

    def offer(self, score: tuple[float, float]) -> bool:
        """Keeps the present weights as the phase's best if their validation loss is its lowest so far."""
        best = self.standing.best
        better = bool(np.isfinite(score[0])) and (best is None or score[0] < best[0])
        if better:
            self.standing.best, self.best_weights = score, self.model.get_weights()
        return better

    def _keep(self, shares: tuple[float, ...]) -> tuple[float, float, tuple[float, float]]:
        """Sets what is best on validation: weights of the phase, a mix with those before it, or those before it.

        Weights on the line between a phase's start and its best epoch are often better than both ends
        (WiSE-FT, Wortsman et al. 2022), and fine-tuned networks are too sure of themselves, so each mix is also
        tried with its logits divided by the temperature that suits it (Guo et al. 2017), which is then folded
        into the last layer. Few validation pictures tell such candidates apart badly: of those that beat the
        weights before, the most cautious one that is not measurably worse than the best is taken.

        Returns:
            The share of the phase's weights (0: undone), the temperature, and log loss and accuracy.
        """
        labels, bar, tried = self.splits.val.labels, self.standing.before[0], []
        for share in (0.0, *shares) if self.standing.best else ():
            self.model.set_weights(self._mixed(share))
            logits = self._validation_logits()
            heats = (1.0, evaluate.temperature(logits, labels))
            if share:
                tried += [(share, heat, logits / heat) for heat in heats]
            else:  # a better temperature alone is no merit of the phase
                bar = min(evaluate.log_loss(logits / heat, labels) for heat in heats)
        tried = [row for row in tried if evaluate.log_loss(row[2], labels) < (1 - LEAST_GAIN) * bar]
        chosen = (0.0, 1.0, self.standing.before)
        if tried:
            share, heat, logits = tried[evaluate.most_cautious([evaluate.losses(row[2], labels) for row in tried])]
            chosen = (share, heat, (evaluate.log_loss(logits, labels), evaluate.accuracy(logits, labels)))
        self.model.set_weights(self._mixed(chosen[0]))
        if chosen[1] != 1:
            layer = self.model.get_layer("logits")
            layer.set_weights([value / chosen[1] for value in layer.get_weights()])
        return chosen

    def _mixed(self, share: float) -> Weights:
        """The weights this share of the way from the phase's start to its best; the ends to the bit."""
        if share in (0, 1):
            return self.best_weights if share else self.first_weights
        return [(1 - share) * a + share * b for a, b in zip(self.first_weights, self.best_weights)]

    def save(self, arrays: dict[str, Weights]) -> None:
        """Writes the checkpoint: variables (seeds of dropout included), these arrays, and the standing."""
        variables = [np.asarray(value) for value in self.model.variables]
        runs.save_state(self.checkpoint, {"variables": variables, **arrays}, asdict(self.standing))


class _EpochEnd(keras.callbacks.Callback):
    """Validates after each epoch, keeps the best weights, records the epoch and saves the state."""

    def __init__(self, trainer: Trainer, name: str, first_epoch: int):
        super().__init__()
        self.trainer, self.name, self.first_epoch = trainer, name, first_epoch

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        trainer = self.trainer
        standing = trainer.standing
        score, tempered = trainer.validate_tempered()
        better = trainer.offer((tempered, score[1]))
        logs |= {"val_loss": score[0], "val_accuracy": score[1]}
        standing.epoch, standing.seconds = epoch + 1, time.monotonic() - trainer.started
        place = {"phase": self.name, "epoch": epoch + 1, "step": (self.first_epoch + epoch + 1) * trainer.steps}
        rate = float(self.model.optimizer.learning_rate)
        trainer.history.add(
            {
                **place,
                "loss": float(logs["loss"]),
                "val_loss": score[0],
                "val_accuracy": score[1],
                "lr": rate,
                "seconds": round(standing.seconds, 3),
            }
        )
        standing.history = trainer.history.lines
        optimizer = [np.asarray(value) for value in self.model.optimizer.variables]
        trainer.save({"optimizer": optimizer, "first": trainer.first_weights, "best": trainer.best_weights})
        mark = " *" if better else ""
        screen.say(
            f"  {self.name} epoch {epoch + 1}: loss {logs['loss']:.4f}, validation loss {score[0]:.4f}, accuracy {score[1]:.4f}{mark}"
        )
        if not np.isfinite(logs["loss"]):
            screen.say(f"  {self.name}: the loss is no longer a number; the phase ends here. A lower lr= would help.")
            self.model.stop_training = True


def _assign(variables: list, values: Weights) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
