"""KerasTuner: a search over settings, each trial judged on the validation split, and the winner trained and exported."""

from kerasft.tune.job import tune

__all__ = ["tune"]
