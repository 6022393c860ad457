"""KerasTuner's oracles by the names of `--tuner`. A process that is killed at any moment can resume from their files.

KerasTuner overwrites its files in place, and its grid search does not save its position. Both are corrected here.
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

# Trials of a search that does not set their number.
DEFAULT_TRIALS = 20


class ResumableOracle(keras_tuner.Oracle):
    """An oracle that writes its files atomically, and stops when its time is up.

    Attributes:
        budget_seconds: no new trial starts after so many seconds. The first trial always starts.
        earlier_seconds: what earlier starts of this search took.
    """

    budget_seconds = math.inf
    earlier_seconds = 0.0

    def start(self, budget_seconds: float) -> None:
        """Starts the clock."""
        self.budget_seconds, self.started = budget_seconds, time.monotonic()

    def elapsed(self) -> float:
        """Seconds of search so far."""
        return self.earlier_seconds + time.monotonic() - self.started

    def has_run_out(self) -> bool:
        """Whether the search has fewer trials than it may have, and its time is not the reason."""
        return bool(self.max_trials) and len(self.trials) < self.max_trials and self.elapsed() <= self.budget_seconds

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial, or a status if there is none."""
        if self.trials and self.elapsed() > self.budget_seconds:
            return {"status": "STOPPED"}
        return super().populate_space(trial_id)

    def get_state(self) -> dict[str, Any]:
        """Returns the state for `oracle.json`."""
        return super().get_state() | {"elapsed": self.elapsed()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state."""
        super().set_state(state)
        self.earlier_seconds = state["elapsed"]

    def save(self) -> None:
        """Writes the state atomically."""
        run_folder.write_json(Path(self._get_oracle_fname()), self.get_state())

    def reload(self) -> None:
        """Restores the saved state. A trial that was written after it is dropped, and drawn again."""
        super().reload()
        self.trials = {name: self.trials[name] for name in self.start_order}

    def _save_trial(self, trial: Any) -> None:
        run_folder.write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class _Combinations(keras_tuner.Oracle):
    """All combinations in order. The last dimension changes fastest. Trial n gets combination n."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._generator, self._drawn = self._combinations(), []

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        while len(self._drawn) <= len(self.trials):
            values = next(self._generator, None)
            if values is None:
                return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
            self._drawn.append(values)
        return {"status": "RUNNING", "values": self._drawn[len(self.trials)]}

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """Yields the active values of each combination by name, without repetitions."""
        hp, seen = self.get_space(), set()
        names = [parameter.name for parameter in hp.space]
        for values in itertools.product(*map(_sorted_values, hp.space)):
            hp.values = dict(zip(names, values))
            active = {parameter.name: hp.values[parameter.name] for parameter in hp.space if hp.is_active(parameter)}
            if tuple(active.items()) not in seen:
                seen.add(tuple(active.items()))
                yield active


def _sorted_values(parameter: Any) -> list:
    # KerasTuner returns the values of a range as a set. Only a choice has `ordered`; its order is the user's.
    return list(parameter.values) if hasattr(parameter, "ordered") else sorted(parameter.values)


class _Random(ResumableOracle, oracles.RandomSearchOracle):
    pass


class _Bayesian(ResumableOracle, oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id: str) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        # The matrices are tiny: several threads take three times as long.
        with threadpool_limits(1):
            response = super().populate_space(trial_id)
        # KerasTuner looks for repetitions among random values only. The optimum of few choices is soon one.
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            return self._random_populate_space()
        return response


class _Hyperband(ResumableOracle, oracles.HyperbandOracle):
    pass


class _Grid(ResumableOracle, _Combinations):
    pass


def random(trials: int = DEFAULT_TRIALS, **kwargs: Any) -> ResumableOracle:
    """Values drawn at random."""
    return _Random(max_trials=_check_integer("trials", trials), **kwargs)


def bayesian(trials: int = DEFAULT_TRIALS, initial: int | None = None, **kwargs: Any) -> ResumableOracle:
    """A Gaussian process on the finished trials, after `initial` random ones (default: three times the dimensions)."""
    initial = initial if initial is None else _check_integer("initial", initial)
    return _Bayesian(max_trials=_check_integer("trials", trials), num_initial_points=initial, **kwargs)


def hyperband(max_epochs: int = 9, factor: int = 3, iterations: int = 1, **kwargs: Any) -> ResumableOracle:
    """Many trials of few epochs. The best ones are repeated with `factor` times as many epochs (Li et al. 2018)."""
    return _Hyperband(
        max_epochs=_check_integer("max_epochs", max_epochs),
        factor=_check_integer("factor", factor, low=2),
        hyperband_iterations=_check_integer("iterations", iterations),
        **kwargs,
    )


def grid(trials: int | None = None, **kwargs: Any) -> ResumableOracle:
    """All combinations, or the first `trials` of them. `uniform` and `log` give ten values, `int` each of its own."""
    return _Grid(max_trials=trials if trials is None else _check_integer("trials", trials), **kwargs)


def _check_integer(name: str, value: Any, low: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}")
    return value
