"""A phase under way: what it trains, on what, and how far it has come."""

import time
from dataclasses import dataclass, field

import keras
import numpy as np

from kerasft.optimization import averages, schedules
from kerasft.storage.run_folder import History
from kerasft.strategies.phase import Phase
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights

# A schedule has decayed once the rate is at most this fraction of its peak.
DECAYED_FRACTION = 0.1


@dataclass
class PhaseRun:
    """One phase under way.

    Attributes:
        setup: of the run.
        phase: what is trained.
        name: number and strategy, such as `02-all`.
        first_epoch: epochs of the phases before.
        inputs: the model that is fitted, and what feeds it.
        state: of the run; it changes while the phase is fitted.
        checkpointer: saves it.
        history: `history.jsonl`.
        initial: weights of the model before the phase.
        best: weights after the best epoch.
        last: averaged weights after the last epoch, under `--average` only.
        started: moment of the monotonic clock at which the phase would have started in one go.
    """

    setup: TrainSetup
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

    def validate(self) -> tuple[float, float]:
        """Loss at the best temperature and score on the validation split, with the weights as they are."""
        return self.setup.scorer.calibrated_loss_and_score(self.inputs.outputs())

    def score_epoch(self) -> tuple[tuple[float, float], bool]:
        """Scores the weights after an epoch, averaged under `--average`.

        Returns:
            What `validate` gives for them, and whether they are the best so far.
        """
        if not self.setup.average:
            score = self.validate()
            better = self.keep_if_best(score)
        else:
            weights = self.model.get_weights()
            self.last = averages.averaged(self.model.optimizer, self.model)
            self.model.set_weights(self.last)
            score = self.validate()
            better = self.keep_if_best(score)
            self.model.set_weights(weights)
        self.state.losses.append(score[0])
        return score, better

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

    def candidates(self) -> list[Weights]:
        """The weights that the phase may leave, the preferred ones first; none where no loss was finite.

        Where the schedule has decayed, the weights after the last epoch stand for the phase: the best of all epochs is
        mostly the luckiest. Where it has not, the best may be better. Where `--patience` ended the phase, or only
        the head was solved, the best is all there is.
        """
        best = [self.best] if self.state.best_score else []
        if self.state.epoch < self.phase.epochs or not self.phase.epochs:
            return best
        last = [self.last or self.model.get_weights()]
        rate = schedules.last_rate(self.phase.schedule, self.phase.lr, self.steps)
        decayed = rate <= DECAYED_FRACTION * self.phase.lr
        return last if decayed and best else [*last, *best]

    def save(self) -> None:
        """Saves a checkpoint in the middle of the phase."""
        self.state.seconds = time.monotonic() - self.started
        optimizer = [np.asarray(value) for value in self.model.optimizer.variables]
        arrays = {"optimizer": optimizer, "initial": self.initial, "best": self.best}
        arrays |= {"last": self.last} if self.last else {}
        # The sums that the loss of an unfinished epoch is the mean of.
        arrays |= {"metrics": [np.asarray(value) for value in self.model.metrics_variables]} if self.state.step else {}
        self.checkpointer.save(self.state, arrays)
