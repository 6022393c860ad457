"""The trainer: for each phase apply, compile, fit, and keep what is better on validation.

After every epoch, and at least every minute, the whole state is saved, so that the same command goes on where a run was stopped.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Splits, example_weights
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.optimization import losses, optimizers
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.storage import disk_cache, feature_cache, run_folder
from kerasft.strategies import phases, planning
from kerasft.strategies.phases import Phase
from kerasft.training import autotune, fitting, head_init, phase_inputs, train_state, weight_interpolation
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights

FALLEN = 0.1  # of its rate, to which a phase has come down where its end is settled


class Trainer:
    """One training run: a network, its data, its folder, and how far it has come."""

    def __init__(self, config: Config, network: Network, splits: Splits, folder: Path, settled: dict | None = None):
        self.config, self.network, self.splits, self.folder = config, network, splits, folder
        self.model = network.model
        self.score = scoring.SCORES[network.task]
        self.named = console.name_of(self.score, len(splits.classes))
        self._take(config.batch_size or planning.DEFAULT_BATCH_SIZE)
        self.settled = settled or {}
        self.average = specs.parse(config.average, "--average")
        self.scale = splits.train.labels.std(0, dtype=np.float64) if network.task == "regression" else None
        error = losses.error(specs.parse_one(config.loss, "--loss"), network.task)
        weighted = config.class_weights == "balanced"
        if weighted and config.sampling == "balanced":
            console.say(
                "warning: --class_weights=balanced and --sampling=balanced both make up for rare classes, "
                "so they are corrected twice; one of the two is enough"
            )
        self.weights = example_weights(splits.train, splits.classes, network.task) if weighted else None
        val_weights = example_weights(splits.val, splits.classes, network.task) if weighted else None
        self.scorer = Scorer(network.task, splits.val.labels, self.scale, val_weights, error)
        self.cache = disk_cache.of(config, folder)
        self.saving = 0.0  # seconds that the last checkpoint took
        self.last_weights: Weights | None = None  # of an epoch, averaged; under `--average` only

    def train(self) -> list[dict[str, Any]]:
        """Runs the phases that are left; returns the records of all. What `auto` settled is written down before.

        Raises:
            UserError: from `--phases`, where a phase diverges again and again, or where the data have changed
                under a stopped run.
        """
        count = len(self.splits.train)
        first, _ = planning.plan(self.config, self.network, count)
        arrays = self._resume()
        if arrays is None:
            arrays = self._begin(first)
        settled = self.state.settled
        self._choose("batch_size", first, autotune.batch_size, count)
        self.config = replace(self.config, batch_size=settled["batch_size"])
        self._take(settled["batch_size"])
        speed = None if self.config.deterministic else settled["speed"]
        planned = [phases.parse(text) for text in settled.get("phases", [])]
        if not planned or not all(phase.optimizer for phase in planned):  # also of a run before all was written down
            planned, reason = planning.plan(self.config, self.network, count, speed)
            console.say(f"phases: {reason}")
            planned = self._judged(planned)
        steps = self.steps * sum(phase.epochs for phase in planned if not phase.conditional)
        self._choose("jit", planned, autotune.compiled, self.batch, steps)
        planned = [self._settled(phase) for phase in planned]
        settled["phases"] = [str(phase) for phase in planned]
        run_folder.write_json(self.folder / "settled.json", settled)
        console.show_phases([(phase, *phases.apply(self.network, phase)) for phase in planned])
        if self.state.saves:
            console.say(f"going on where the run was stopped: {self.state.place(planned)}")
        self.history = run_folder.History(self.folder / "history.jsonl", self.state.history)
        for index in range(self.state.phase, len(planned)):
            if planned[index].conditional and not planning.gained_enough(self.state.records[-1]):
                console.say("no further phase: the last one was not kept whole, or gained little")
                break
            self._run(index, planned[index], sum(phase.epochs for phase in planned[:index]), arrays)
            arrays = {}
        phases.release(self.network)
        return self.state.records

    def validate(self) -> tuple[float, float]:
        """Loss at the best temperature and score on the validation split, with the weights as they are."""
        return self.scorer.compared(self.inputs.outputs())

    def score_epoch(self) -> tuple[tuple[float, float], bool]:
        """What `validate` gives for the weights, averaged under `--average`; and whether they are the best so far."""
        model = self.inputs.model
        weights = model.get_weights() if self.average else None
        if self.average:
            self.last_weights = optimizers.averaged(model.optimizer, model)
            model.set_weights(self.last_weights)
        score = self.validate()
        better = self.offer(score)
        self.state.losses.append(score[0])
        if self.average:
            model.set_weights(weights)
        return score, better

    def out_of_patience(self) -> bool:
        """Whether the phase under way has not become better for `--patience` epochs."""
        losses, patience = self.state.losses, self.config.patience
        # A loss that is not a number is none of the best; `argmin` alone would take it for that.
        best = int(np.argmin(np.nan_to_num(losses, nan=np.inf))) if losses else 0
        return patience is not None and len(losses) - 1 - best >= patience

    def _take(self, batch_size: int) -> None:
        """Sets the pictures of a step, and the steps of an epoch."""
        self.batch = min(batch_size, len(self.splits.train))
        self.steps = pipeline.steps_per_epoch(len(self.splits.train), self.batch)

    def _choose(self, name: str, planned: list[Phase], choose: Callable[..., autotune.Choice], *about: int) -> None:
        """Settles how the run computes, once: a run that goes on takes what it began with."""
        settled = self.state.settled
        if name not in settled:
            deep = [phase for phase in planned if phase.epochs and phase.kind != "head"]
            longest = max(deep, key=lambda phase: phase.epochs, default=None)
            chosen = choose(self.config, self.network, longest, *about)
            settled |= {name: chosen.value, f"{name}_reason": chosen.reason}
            if chosen.seconds:
                console.say(f"{name.replace('_', ' ')}: {chosen.value} ({chosen.reason})")

    def _begin(self, planned: list[Phase]) -> dict[str, Weights]:
        given = self.config, self.network, self.splits, self.scorer, self.cache, self.weights
        trained = any(phase.epochs for phase in planned)
        start = head_init.prepare(*given, augmented=trained, head_first=planned[0].kind == "head")
        settled = {**self.settled, "augment": start.augment, "speed": start.speed, "pixels": start.pixels}
        if start.reason:
            settled["augment_reason"] = start.reason
        self.state = TrainState(uuid.uuid4().hex, self.splits.digest, settled, seconds=start.seconds)
        return {"solution": list(start.solution)} if start.solution else {}

    def _resume(self) -> dict[str, Weights] | None:
        restored = train_state.resume(self.folder, self.model, self.splits.digest)
        if restored is None:
            return None
        self.state, arrays = restored
        if pixels := self.state.settled.get("pixels"):
            networks.set_pixel_statistics(self.network, *pixels)
        return arrays

    def _settled(self, phase: Phase) -> Phase:
        automatic = [str(spec) for spec in phase.augment] == ["auto"]
        recipe = self.state.settled["augment"]
        return replace(phase, augment=specs.parse(recipe, "--augment")) if automatic else phase

    def _judged(self, planned: list[Phase]) -> list[Phase]:
        """The phases that the validation split can judge; says so where it cannot."""
        solved, pictures = self.network.head_init == "probe", len(self.splits.val)
        found = weight_interpolation.judged(planned, pictures, solved=solved)
        if found != planned:
            what = "the solved head" if solved else f"'{planned[0]}'"
            least = scoring.LEAST_PICTURES
            console.say(
                f"validation: {pictures} picture{'s' * (pictures != 1)} cannot judge a phase (needed: {least}): "
                f"{what} is kept as it is, and nothing is trained after it"
            )
        return found

    def _fed(self, name: str, phase: Phase) -> PhaseInputs:
        """The phase's feed, as it was planned when the phase first began."""
        plans = self.state.settled.setdefault("cached", {})
        if name not in plans:
            plans[name] = list(phase_inputs.plan(self.network, self.splits, phase, self.cache))
            run_folder.write_json(self.folder / "settled.json", self.state.settled)
            if phase.epochs and phase.kind != "all":
                console.say(f"{name}: {plans[name][2]}" if plans[name][0] else f"{name}: not cached, {plans[name][2]}")
        plan = phase_inputs.Plan(*plans[name])
        given = self.network, self.splits, phase, self.config.seed
        try:
            return phase_inputs.activations(*given, self.cache, plan) if plan.views else phase_inputs.pictures(*given)
        except feature_cache.RangeError as error:
            plan = phase_inputs.plan(self.network, self.splits, phase, self.cache, halved=False)
            plans[name] = list(plan)
            run_folder.write_json(self.folder / "settled.json", self.state.settled)
            console.say(f"{name}: {error}; {plan.reason if plan.views else f'not cached, {plan.reason}'}")
        return phase_inputs.activations(*given, self.cache, plan) if plan.views else phase_inputs.pictures(*given)

    def _run(self, index: int, phase: Phase, first_epoch: int, arrays: dict[str, Weights]) -> None:
        """Runs one phase to its end and adds its record.

        Args:
            arrays: of the checkpoint, in the phase that a resumed run goes on with; the probe's `solution` in
                the first phase of a new one.
        """
        state, name = self.state, f"{index + 1:02d}-{phase.kind}"
        trainable, frozen = phases.apply(self.network, phase)
        self.started = time.monotonic() - state.seconds
        self.inputs = self._fed(name, phase)
        model = self.inputs.model
        self.last_weights = arrays.get("last")
        if "first" in arrays:
            self.first_weights, self.best_weights = arrays["first"], arrays["best"]
        else:
            state.before = self.validate()
            self.first_weights = self.best_weights = model.get_weights()
            if "solution" in arrays:
                model.get_layer("logits").set_weights(arrays["solution"])
                if phase.epochs:  # what is trained has to be better than the solved head, not than the one before it
                    given = model, self.inputs.outputs, self.scorer, self.first_weights, [model.get_weights()], (1.0,)
                    state.before = weight_interpolation.keep_best(*given).score or state.before
                    self.first_weights = model.get_weights()
                self.offer(self.validate())
        if phase.epochs > state.epoch and not self.out_of_patience():
            fitting.fit(self, name, phase, first_epoch, arrays.get("optimizer"), arrays.get("running"))
        alphas = weight_interpolation.ALPHAS if phase.epochs else (1.0,)
        chosen = weight_interpolation.keep_best(
            model, self.inputs.outputs, self.scorer, self.first_weights, self._candidates(phase), alphas
        )
        alpha, temperature, after, _ = chosen._replace(score=chosen.score or state.before)
        seconds, before, score = time.monotonic() - self.started, state.before, self.score
        record = {"name": name, "spec": str(phase), "seconds": round(seconds, 3), "epochs": state.epoch}
        record |= {"images_per_second": round(state.epoch * self.steps * self.batch / seconds, 1)}
        record |= {"val_before": before[0], "val_after": after[0]}
        record |= {f"val_{score}_before": before[1], f"val_{score}_after": after[1]}
        record |= {"accepted": alpha > 0, "share": alpha, "temperature": temperature}
        record |= {"cached": self.inputs.views > 0, "views": self.inputs.views}
        record |= {"trainable": trainable, "frozen": frozen, "retries": state.lr_backoffs}
        console.say(f"{name}: {console.verdict(alpha, before, after, self.named)} ({seconds:.1f} s)")
        place = self.folder / "phases" / name
        run_folder.write_json(place / "record.json", record)
        run_folder.write_by_name(place / "model.weights.h5", self.model.save_weights)
        done = {"records": [*state.records, record], "phase": index + 1}
        self.state = TrainState(state.run, state.data, state.settled, **done)
        self.state.history, self.state.saves = self.history.lines, state.saves
        self.save({})

    def _candidates(self, phase: Phase) -> list[Weights]:
        """What a finished phase came to, the preferred weights first; nothing, where no loss was finite.

        Where the rate came down, the weights after the last epoch are settled, and the best of all epochs is mostly the
        luckiest; where it did not, the best may be better.
        """
        state, best = self.state, [self.best_weights] if self.state.best else []
        if state.epoch < phase.epochs or not phase.epochs:  # by `--patience`; or there was nothing but a solution
            return best
        last = [self.last_weights or self.inputs.model.get_weights()]
        fallen = optimizers.last_rate(phase.schedule, phase.lr, self.steps * phase.epochs) <= FALLEN * phase.lr
        return last if fallen and best else [*last, *best]

    def offer(self, score: tuple[float, float]) -> bool:
        """Keeps the present weights as the phase's best if their validation loss is its lowest so far."""
        best = self.state.best
        better = bool(np.isfinite(score[0])) and (best is None or score[0] < best[0])
        if better:
            self.state.best, self.best_weights = score, self.inputs.model.get_weights()
        return better

    def save(self, arrays: dict[str, Weights]) -> None:
        """Writes the checkpoint."""
        began = time.monotonic()
        train_state.save(self.folder, self.model, self.state, arrays)
        self.saved = time.monotonic()
        self.saving = self.saved - began

    def save_within(self) -> None:
        """Writes the checkpoint in the middle of a phase."""
        self.state.seconds = time.monotonic() - self.started
        optimizer = [np.asarray(value) for value in self.inputs.model.optimizer.variables]
        last = {"last": self.last_weights} if self.last_weights else {}
        running = [np.asarray(value) for value in self.inputs.model.metrics_variables]
        within = {"running": running} if self.state.step else {}
        self.save({"optimizer": optimizer, "first": self.first_weights, "best": self.best_weights} | last | within)
