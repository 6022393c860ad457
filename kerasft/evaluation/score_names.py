"""The score of each task and its name, and how many images choose by it. The report uses them too, so nothing here imports TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

from kerasft.console.wording import number, percent

# On fewer validation images, neither a phase nor a temperature is chosen.
MIN_VALIDATION_IMAGES = 5

# The score of each task, as `metrics.json` names it.
SCORES = {"single_label": "accuracy", "multi_label": "map", "regression": "mae"}
# The same scores in words, and those of several targets and of a quantile.
TITLES = {
    "accuracy": "accuracy",
    "map": "mean average precision",
    "mae": "mean absolute error",
    "scaled_mae": "mean absolute error in deviations",
    "pinball": "mean pinball loss",
}
# How the proof of an export names the share of images that get the same labels.
AGREEMENTS = {"single_label": "top1_agreement", "multi_label": "label_agreement"}
# Scores of which less is better.
ERRORS = ("mae", "scaled_mae", "pinball")


def formatter(score: str) -> Callable[[float | None], str]:
    """What formats a score for readers: accuracy in percent, others as numbers."""
    return percent if score == "accuracy" else number


def score_name(task: str, quantile: float | None = None) -> str:
    """The score by which networks are compared, as rows name it that do not tell one target from several.

    Args:
        task: `single_label`, `multi_label` or `regression`.
        quantile: that is judged by its pinball loss, of `pinball.asked_quantile`; else None.
    """
    return SCORES[task] if quantile is None else "pinball"


def score_key(task: str, targets: int, quantile: float | None = None) -> str:
    """The same score as the metrics of a split name it. The errors of several targets are in their deviations.

    Args:
        task, quantile: as in `score_name`.
        targets: D of them under regression; else of no account.
    """
    return of_targets(score_name(task, quantile), targets)


def of_targets(name: str, targets: int) -> str:
    """The `score_key` of a `score_name`."""
    return "scaled_mae" if name == "mae" and targets > 1 else name


def recorded_score(row: Mapping[str, Any]) -> str:
    """The score that a row holds, which has one beside its loss: that of an entry, of a step, or of a compared model."""
    return next(name for name in TITLES if name in row)
