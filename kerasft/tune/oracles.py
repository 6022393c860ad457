"""KerasTuner's oracles by the names of `--tuner`, with a state on disk that bears to be killed at any moment.

KerasTuner writes its files in place, and its grid search keeps nothing of where it was; both are put right here.
"""

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner import oracles

from kerasft.storage import run_folder

__all__ = ["bayesian", "grid", "hyperband", "random"]

TRIALS = 20


class Kept(keras_tuner.Oracle):
    """An oracle whose files are whole at any moment, and that stops when its time is up.

    Attributes:
        budget: seconds after which no new trial begins; the first one always does.
        spent: of them, by earlier starts of this search.
    """

    budget = math.inf
    spent = 0.0

    def start(self, budget: float) -> None:
        """Starts the clock."""
        self.budget, self.started = budget, time.monotonic()

    def elapsed(self) -> float:
        """Seconds of search so far."""
        return self.spent + time.monotonic() - self.started

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next trial's values, or that there is none."""
        if self.trials and self.elapsed() > self.budget:
            return {"status": "STOPPED"}
        return super().populate_space(trial_id)

    def get_state(self) -> dict[str, Any]:
        """The state, for `oracle.json`."""
        return super().get_state() | {"elapsed": self.elapsed()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes a state up."""
        super().set_state(state)
        self.spent = state["elapsed"]

    def save(self) -> None:
        """Writes the state atomically."""
        run_folder.write_json(Path(self._get_oracle_fname()), self.get_state())

    def reload(self) -> None:
        """Reads what was saved, without a trial that was written down after it: that one is drawn again."""
        super().reload()
        self.trials = {name: self.trials[name] for name in self.start_order}

    def _save_trial(self, trial: Any) -> None:
        run_folder.write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class _Combinations(keras_tuner.Oracle):
    """All combinations in turn: the last dimension changes fastest, and the n-th trial gets the n-th."""

    def __init__(self, **given: Any):
        super().__init__(**given)
        self._walk, self._walked = self._combinations(), []

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        while len(self._walked) <= len(self.trials):
            following = next(self._walk, None)
            if following is None:
                return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
            self._walked.append(following)
        return {"status": "RUNNING", "values": self._walked[len(self.trials)]}

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """Values by name, those left out that do not count beside the others."""
        hp, seen = self.get_space(), set()
        for values in itertools.product(*(sorted(one.values) if _ranged(one) else one.values for one in hp.space)):
            hp.values = dict(zip((one.name for one in hp.space), values))
            active = {one.name: hp.values[one.name] for one in hp.space if hp.is_active(one)}
            if tuple(active.items()) not in seen:
                seen.add(tuple(active.items()))
                yield active


def _ranged(one: Any) -> bool:
    return not hasattr(one, "ordered")  # what KerasTuner gives of a range of floats has the order of a set


class _Random(Kept, oracles.RandomSearchOracle):
    pass


class _Bayesian(Kept, oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # its matrices are tiny: several threads take three times as long
            return super().populate_space(trial_id)


class _Hyperband(Kept, oracles.HyperbandOracle):
    pass


class _Grid(Kept, _Combinations):
    pass


def random(trials: int = TRIALS, **given: Any) -> Kept:
    """Values drawn at random."""
    return _Random(max_trials=_whole("trials", trials), **given)


def bayesian(trials: int = TRIALS, initial: int | None = None, **given: Any) -> Kept:
    """A Gaussian process over the trials so far, after `initial` random ones (three times the dimensions)."""
    initial = initial if initial is None else _whole("initial", initial)
    return _Bayesian(max_trials=_whole("trials", trials), num_initial_points=initial, **given)


def hyperband(max_epochs: int = 9, factor: int = 3, iterations: int = 1, **given: Any) -> Kept:
    """Many trials of few epochs, the best of them again with `factor` times as many (Li et al. 2018)."""
    whole = {"max_epochs": _whole("max_epochs", max_epochs), "factor": _whole("factor", factor, least=2)}
    return _Hyperband(**whole, hyperband_iterations=_whole("iterations", iterations), **given)


def grid(trials: int | None = None, **given: Any) -> Kept:
    """All combinations, ten values of a range without a step; the first `trials` of them."""
    return _Grid(max_trials=trials if trials is None else _whole("trials", trials), **given)


def _whole(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}")
    return value
