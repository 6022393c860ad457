"""KerasTuner: a search over settings. Each trial is scored on the validation split. The best one is trained and exported."""

from kerasft.tune.search import FLAGS, tune

__all__ = ["FLAGS", "tune"]
