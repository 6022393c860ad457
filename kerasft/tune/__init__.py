"""KerasTuner: a search over settings, each trial judged on the validation split, and the winner trained and exported."""

from kerasft.tune.search import FLAGS, tune

__all__ = ["FLAGS", "tune"]
