"""The trainer: for each phase apply, compile, fit, and keep what is better on validation.

After every epoch, and at least every minute, the whole state is saved, so that the same command goes on where a run was stopped.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft import augment, evaluate, losses, optimizers, phases, runs, screen, selection, warmstart
from kerasft import spec as specs
from kerasft.config import Config
from kerasft.data import pipeline
from kerasft.data.splits import Splits, example_weights
from kerasft.errors import UserError
from kerasft.model import Network
from kerasft.phases import Phase
from kerasft.selection import Weights

BATCH = 64  # pictures a step in evaluation
SAVE_SECONDS = 60.0  # between two checkpoints at the most, as far as one step allows


@dataclass
class Standing:
    """How far a run has come: all but the arrays of what a checkpoint holds.

    Attributes:
        data: digest of the splits.
        augment: the `--augment` Spec, settled.
        records: one dict a finished phase, as in `metrics.json`.
        phase, epoch, step: index of the phase under way, its epochs that are done, and the steps of the next one.
        seconds: spent in it.
        before, best: log loss and accuracy on validation at its start, and after its best epoch.
        history: lines of `history.jsonl`.
    """

    data: str
    augment: str
    records: list[dict[str, Any]]
    phase: int = 0
    epoch: int = 0
    step: int = 0
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
        balanced = config.class_weights == "balanced"
        self.weights = example_weights(splits.train, splits.classes, splits.task) if balanced else None
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
        place = f"{self.standing.epoch} of its epochs" + (
            f" and {self.standing.step} steps" if self.standing.step else ""
        )
        screen.say(f"going on with phase {self.standing.phase + 1} after {place}")
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
        if not (standing.epoch or standing.step):
            standing.before = self.validate()
            self.first_weights = self.best_weights = self.model.get_weights()
            if "solution" in arrays:
                self.model.get_layer("logits").set_weights(arrays["solution"])
                self.offer(self.validate())
        else:
            self.first_weights, self.best_weights = arrays["first"], arrays["best"]
        if phase.epochs > standing.epoch:
            self._fit(name, phase, first_epoch, arrays.get("optimizer"))
        share, temperature, after = self._keep(selection.SHARES if phase.epochs else (1.0,))
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
        standing, steps = self.standing, self.steps
        optimizer = optimizers.build(phase.optimizer, phase.schedule, phase.lr, steps * phase.epochs)
        optimizer.build(self.model.trainable_variables)
        if optimizer_state:
            _assign(optimizer.variables, optimizer_state)
        self.model.compile(optimizer, losses.build(phase.loss), jit_compile=False)
        layer = augment.build(phase.augment)
        if not layer.stateless:
            screen.say("note: Keras augmentation layers draw numbers of their own: no exact resume, no equal runs")
        bar = screen.Bar(name, phase.epochs * steps, standing.epoch * steps + standing.step)
        callbacks = [_EpochEnd(self, name, first_epoch), bar]
        if self.config.tensorboard:
            folder = self.folder / "tensorboard" / name
            callbacks.append(keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0))
        try:
            if standing.step:  # the rest of an epoch that was stopped
                self._epochs(phase, layer, first_epoch, standing.epoch + 1, callbacks)
            if standing.epoch < phase.epochs and not self.model.stop_training:
                self._epochs(phase, layer, first_epoch, phase.epochs, callbacks)
        finally:
            bar.stop()

    def _epochs(self, phase: Phase, layer: augment.Augment, first_epoch: int, last: int, callbacks: list) -> None:
        """Goes on to the end of epoch `last` of the phase; all epochs but the first are whole ones."""
        done, step = self.standing.epoch, self.standing.step
        stream = pipeline.training_stream(
            self.splits.train,
            size=self.network.size,
            batch_size=self.batch,
            augment=layer,
            seed=self.config.seed,
            first_step=(first_epoch + done) * self.steps + step,
            last_step=(first_epoch + last) * self.steps,
            sampling=self.config.sampling,
            weights=self.weights,
        )
        span = {"initial_epoch": done, "epochs": last, "steps_per_epoch": self.steps - step}
        self.model.fit(stream, **span, callbacks=callbacks, shuffle=False, verbose=0)

    def offer(self, score: tuple[float, float]) -> bool:
        """Keeps the present weights as the phase's best if their validation loss is its lowest so far."""
        best = self.standing.best
        better = bool(np.isfinite(score[0])) and (best is None or score[0] < best[0])
        if better:
            self.standing.best, self.best_weights = score, self.model.get_weights()
        return better

    def _keep(self, shares: tuple[float, ...]) -> selection.Choice:
        """Sets the weights that `selection` chooses, their temperature folded into the last layer."""

        def logits_at(share: float) -> np.ndarray:
            self.model.set_weights(selection.mixed(self.first_weights, self.best_weights, share))
            return self._validation_logits()

        chosen = selection.UNDONE
        if self.standing.best:  # else no epoch had a finite loss
            chosen = selection.choose(logits_at, self.splits.val.labels, shares)
        self.model.set_weights(self.first_weights)
        if chosen.share:
            self.model.set_weights(selection.mixed(self.first_weights, self.best_weights, chosen.share))
        if chosen.temperature != 1:
            layer = self.model.get_layer("logits")
            layer.set_weights([value / chosen.temperature for value in layer.get_weights()])
        return chosen if chosen.score else chosen._replace(score=self.standing.before)

    def save(self, arrays: dict[str, Weights]) -> None:
        """Writes the checkpoint: variables (seeds of dropout included), these arrays, and the standing."""
        variables = [np.asarray(value) for value in self.model.variables]
        runs.save_state(self.checkpoint, {"variables": variables, **arrays}, asdict(self.standing))
        self.saved = time.monotonic()

    def save_within(self) -> None:
        """Writes the checkpoint in the middle of a phase."""
        self.standing.seconds = time.monotonic() - self.started
        optimizer = [np.asarray(value) for value in self.model.optimizer.variables]
        self.save({"optimizer": optimizer, "first": self.first_weights, "best": self.best_weights})


class _EpochEnd(keras.callbacks.Callback):
    """Validates after each epoch, keeps the best weights, records the epoch; saves the state, at least every minute."""

    def __init__(self, trainer: Trainer, name: str, first_epoch: int):
        super().__init__()
        self.trainer, self.name, self.first_epoch = trainer, name, first_epoch
        trainer.saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        standing = self.trainer.standing
        standing.step += 1
        if time.monotonic() - self.trainer.saved > SAVE_SECONDS and standing.step < self.trainer.steps:
            self.trainer.save_within()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        trainer = self.trainer
        standing = trainer.standing
        score, tempered = trainer.validate_tempered()
        better = trainer.offer((tempered, score[1]))
        logs |= {"val_loss": score[0], "val_accuracy": score[1]}
        standing.epoch, standing.step = epoch + 1, 0
        row = {"phase": self.name, "epoch": epoch + 1, "step": (self.first_epoch + epoch + 1) * trainer.steps}
        row |= {"loss": float(logs["loss"]), "val_loss": score[0], "val_accuracy": score[1]}
        row |= {"lr": float(self.model.optimizer.learning_rate)}
        trainer.history.add({**row, "seconds": round(time.monotonic() - trainer.started, 3)})
        standing.history = trainer.history.lines
        trainer.save_within()
        mark = ", the best so far" if better else ""
        screen.say(
            f"  {self.name} epoch {epoch + 1}: loss {logs['loss']:.4f}, "
            f"validation loss {score[0]:.4f}, accuracy {score[1]:.4f}{mark}"
        )
        if not np.isfinite(logs["loss"]):
            screen.say(f"  {self.name}: the loss is no longer a number; the phase ends here. A lower lr= would help.")
            self.model.stop_training = True


def _assign(variables: list, values: Weights) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
