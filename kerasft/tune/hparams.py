"""TensorBoard's HParams view: the search space, and the values and metrics of each trial."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api

from kerasft.tune.search_space import Dimension


def declare(folder: Path, space: Iterable[Dimension], objective: str) -> None:
    """Writes the experiment: the search space, and the objective.

    Args:
        folder: TensorBoard's log directory of the search.
    """
    with tf.summary.create_file_writer(str(folder)).as_default():
        metrics = [api.Metric(objective, display_name=objective)]
        api.hparams_config(
            hparams=[api.HParam(dimension.name, _domain(dimension)) for dimension in space], metrics=metrics
        )


def write(folder: Path, row: dict[str, Any]) -> None:
    """Writes a trial: its values, and its metrics at its last epoch.

    Args:
        folder: as in `declare`. The trial gets a subfolder.
        row: of the trial in `tune.json`.
    """
    with tf.summary.create_file_writer(str(folder / row["trial"])).as_default():
        api.hparams(row["values"], trial_id=row["trial"])
        for name, value in row["measures"].items():
            tf.summary.scalar(name, value, step=row["epochs"])


def _domain(dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return api.Discrete(dimension.options)
    interval = api.IntInterval if dimension.kind == "int" else api.RealInterval
    return interval(dimension.low, dimension.high)
