"""A phase under way: what it trains, on what, and how far it has come."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.networks import blending
from kerasft.networks.network import Network
from kerasft.optimization import averages, schedules
from kerasft.storage.run_folder import History
from kerasft.strategies import freezing
from kerasft.strategies.low_rank import fold
from kerasft.strategies.phase import Phase
from kerasft.training import batch_norm_statistics, soup, weight_interpolation
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.train_setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights

# A schedule has decayed once the rate is at most this fraction of its peak.
DECAYED_FRACTION = 0.1

# Of the epochs of `auto` whose score decides nothing, one in so many is scored, to be seen.
EPOCHS_BETWEEN_SCORES = 3


@dataclass
class PhaseRun:
    """One phase under way.

    Attributes:
        setup: of the run.
        network: that the phase trains (`variables.phase_network`).
        phase: what is trained.
        name: number and strategy, such as `02-all`.
        first_epoch: epochs of the phases before.
        inputs: the model that is fitted, and what feeds it.
        state: of the run; it changes while the phase is fitted.
        checkpointer: saves it.
        history: `history.jsonl`.
        initial: weights of the model before the phase.
        best: weights after the best epoch.
        last: averaged weights after the last epoch, where they are not those of the model.
        started: moment of the monotonic clock at which the phase would have started in one go.
    """

    setup: TrainSetup
    network: Network
    phase: Phase
    name: str
    first_epoch: int
    inputs: PhaseInputs
    state: TrainState
    checkpointer: Checkpointer
    history: History
    initial: Weights
    best: Weights
    last: Weights | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> keras.Model:
        """The model that is fitted: the network, or its unfrozen end."""
        return self.inputs.model

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.phase.epochs * self.setup.steps_per_epoch

    @functools.cached_property
    def blends(self) -> list[blending.Blend]:
        """The activations that the phase blends in: those of what it does not freeze."""
        names = freezing.unfrozen(self.network, self.phase)
        return [blend for blend in blending.blends_of(self.network.model) if blend.name in names]

    @property
    def soup_folder(self) -> Path:
        """Where the ingredients of its soup are, under `--average=soup`."""
        return self.setup.folder / soup.FOLDER / self.name

    def stream(self, first_step: int, last_step: int) -> tf.data.Dataset:
        """The training batches of the steps [first_step, last_step), counted over all phases."""
        setup = self.setup
        return pipeline.training_stream(
            setup.splits.train.labels,
            self.inputs.load,
            batch_size=setup.batch_size,
            seed=setup.config.seed,
            sampling=setup.config.sampling,
            weights=setup.example_weights,
            first_step=first_step,
            last_step=last_step,
            micro_batches=self.state.micro_batches,
        )

    def validate(self) -> tuple[float, float]:
        """Loss at the best temperature and score on the validation split, with the weights as they are.

        Activations that the phase blends in count as blended in: they will be in what is kept.
        """
        with blending.new_alone(self.blends):
            return self.setup.scorer.calibrated_loss_and_score(self.inputs.outputs())

    def judged(self, weights: Weights) -> Weights:
        """Weights of the model as they are judged and kept: low-rank updates in the kernels, activations blended in."""
        return blending.with_shares_of_one(self.model, fold(self.model, weights), self.blends)

    def score_epoch(self) -> tuple[tuple[float, float], bool]:
        """Scores the weights after an epoch, averaged over steps where `--average` or the optimizer says so.

        Returns:
            What `validate` gives for them, and whether they are the best so far.
        """
        stepped = None
        if averages.averages_steps(self.model.optimizer):
            stepped, averaged = self.model.get_weights(), averages.averaged(self.model.optimizer, self.model)
            self.model.set_weights(averaged)
            self._estimate_statistics(stepped, averaged)
            self.last = self.model.get_weights()
        score = self.validate()
        better = self.keep_if_best(score)
        self.state.losses.append(score[0])
        if self._makes_soup:
            soup.keep_best(self.soup_folder, self.state.losses, self.last or self.model.get_weights())
        if stepped:
            self.model.set_weights(stepped)
        return score, better

    def _estimate_statistics(self, stepped: Weights, averaged: Weights) -> None:
        """Estimates the statistics of BatchNormalization for averaged weights, on images of the epoch."""
        moving, norms = averages.moving(averages.build(self.setup.average)), freezing.trained_batch_norms(self.model)
        differ = any(not np.array_equal(one, other) for one, other in zip(stepped, averaged))
        if moving and moving.estimates_statistics and norms and differ:
            per_epoch = self.setup.steps_per_epoch
            first = (self.first_epoch + self.state.epoch) * per_epoch
            batches = self.stream(first, first + min(per_epoch, batch_norm_statistics.MAX_BATCHES))
            batch_norm_statistics.estimate(self._training_pass, norms, batches)

    @functools.cached_property
    def _training_pass(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return batch_norm_statistics.training_pass(self.model)

    @property
    def _makes_soup(self) -> bool:
        return any(one.over_epochs for one in averages.build(self.setup.average))

    def keep_if_best(self, score: tuple[float, float]) -> bool:
        """Keeps the present weights as the best of the phase if their validation loss is its lowest so far."""
        best = self.state.best_score
        better = bool(np.isfinite(score[0])) and (best is None or score[0] < best[0])
        if better:
            self.state.best_score, self.best = score, self.model.get_weights()
        return better

    def out_of_patience(self) -> bool:
        """Whether the validation loss has not become lower for `--patience` epochs."""
        losses, patience = self.state.losses, self.setup.config.patience
        # A loss that is not a number is never the best; `argmin` alone would take it for that.
        best = int(np.argmin(np.nan_to_num(losses, nan=np.inf))) if losses else 0
        return patience is not None and len(losses) - 1 - best >= patience

    def is_scored(self, epoch: int) -> bool:
        """Whether the weights after an epoch, counted from 1, are scored.

        All are, but in phases that `auto` has chosen. There, an epoch is left out that decides neither when the phase ends nor
        what it leaves.
        """
        if self.may_keep_best or self._makes_soup or not self.phase.stop_if_losing:
            return True
        return epoch in (self._judged_at, self.phase.epochs) or epoch % EPOCHS_BETWEEN_SCORES == 0

    @property
    def _judged_at(self) -> int:
        """The epoch after which `stop_if_losing` judges the phase."""
        return math.ceil(weight_interpolation.LOSING_FRACTION * self.phase.epochs)

    @property
    def _ends_decayed(self) -> bool:
        """Whether the schedule has decayed when the last epoch ends. A plateau may not have."""
        return schedules.last_rate(self.phase.schedule, self.phase.lr, self.steps) <= DECAYED_FRACTION * self.phase.lr

    @property
    def may_keep_best(self) -> bool:
        """Whether the phase may leave the weights of its best epoch, and not only those of its last."""
        return self.setup.config.patience is not None or not self._ends_decayed

    @property
    def may_undo(self) -> bool:
        """Whether the weights before the phase are an answer.

        A head without the probe's solution answers nothing. A solved head predicts the mean, where a quantile is asked for.
        """
        is_mean = self.setup.network.head_init == "probe" and not any(
            one.epochs for one in self.state.records if one.alpha
        )
        return bool(self.phase.epochs) and not (is_mean and self.setup.scorer.asked_quantile is not None)

    def check_losing(self) -> None:
        """Notes in the state whether the phase is losing, once it is as far as `stop_if_losing` judges it."""
        if self.phase.stop_if_losing and self.may_undo and self.state.epoch == self._judged_at < self.phase.epochs:
            last, first = self.judged(self.last or self.model.get_weights()), self.judged(self.initial)
            self.state.is_losing = weight_interpolation.is_losing(
                self.model, self.inputs.outputs, self.setup.scorer, first, last, self.phase
            )

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be fitted: all epochs are done, or the phase has been stopped before."""
        return self.state.epoch >= self.phase.epochs or self.state.is_losing or self.out_of_patience()

    def candidates(self) -> list[Weights]:
        """The weights that the phase may leave, the preferred ones first; none where no loss was finite.

        Where the schedule has decayed, the weights after the last epoch stand for the phase: the best of all epochs is
        mostly the luckiest. Where it has not, the best may be better. Where `--patience` ended the phase, or only
        the head was solved, the best is all there is. A soup stands for all of these. Low-rank updates are folded into
        the kernels, so that the way from the weights before the phase is a straight line.
        """
        return [self.judged(weights) for weights in self._candidates()]

    def _candidates(self) -> list[Weights]:
        made = self._soup() if self._makes_soup and self.phase.epochs else None
        if made:
            return [made]
        best = [self.best] if self.state.best_score else []
        if self.state.epoch < self.phase.epochs or not self.phase.epochs:
            return best
        last = [self.last or self.model.get_weights()]
        return last if self._ends_decayed and best else [*last, *best]

    def own_variables(self) -> dict[str, Weights]:
        """What a checkpoint holds of a phase in addition to the variables of the run's network: those of its own network, if any."""
        if self.network is self.setup.network:
            return {}
        return {"phase_variables": [np.asarray(value) for value in self.network.model.variables]}

    def _soup(self) -> Weights | None:
        """The soup of the epochs, and of other runs; None where there is none. The weights of the model stay as they are."""
        weights = self.model.get_weights()

        def loss_of(mixed: Weights) -> float:
            self.model.set_weights(mixed)
            return self.validate()[0]

        ingredients = soup.epoch_ingredients(self.soup_folder, self.state.losses)
        ingredients += [soup.run_ingredient(run, self.setup.network, loss_of) for run in self._soup_runs]
        made = soup.greedy(ingredients, loss_of)
        self.model.set_weights(weights)
        if made is None:
            return None
        kept, members = made
        console.say(f"  {self.name}: soup of {len(members)} of {len(ingredients)}: {', '.join(members)}")
        return kept

    @property
    def _soup_runs(self) -> tuple[str, ...]:
        """The runs that `--average=soup(runs=)` names, in a phase that trains what their weights belong to: all layers."""
        return averages.runs_of(averages.build(self.setup.average)) if self.phase.trains_all_layers else ()

    def save(self) -> None:
        """Saves a checkpoint in the middle of the phase."""
        self.state.seconds = time.monotonic() - self.started
        optimizer = [np.asarray(value) for value in self.model.optimizer.variables]
        arrays = {"optimizer": optimizer, "initial": self.initial, "best": self.best}
        arrays |= {"last": self.last} if self.last else {}
        arrays |= self.own_variables()
        # The sums that the loss of an unfinished epoch is the mean of.
        arrays |= {"metrics": [np.asarray(value) for value in self.model.metrics_variables]} if self.state.step else {}
        self.checkpointer.save(self.state, arrays)
