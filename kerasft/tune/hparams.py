"""TensorBoard's HParams view: the space of the search, and the values and figures of each trial."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api

from kerasft.tune.search_space import Dimension


def declare(folder: Path, space: Iterable[Dimension], objective: str) -> None:
    """Writes the experiment: what is searched, and what is judged.

    Args:
        folder: TensorBoard's log directory of the search.
    """
    with tf.summary.create_file_writer(str(folder)).as_default():
        metrics = [api.Metric(objective, display_name=objective)]
        api.hparams_config(hparams=[api.HParam(one.name, _domain(one)) for one in space], metrics=metrics)


def write(folder: Path, row: dict[str, Any]) -> None:
    """Writes a trial: its values, and all its figures at the epoch where it ended.

    Args:
        folder: as `declare`; the trial gets a folder of its own in it.
        row: of `tune.json`.
    """
    with tf.summary.create_file_writer(str(folder / row["trial"])).as_default():
        api.hparams(row["values"], trial_id=row["trial"])
        for name, value in row["measures"].items():
            tf.summary.scalar(name, value, step=row["epochs"])


def _domain(one: Dimension) -> Any:
    if one.kind == "choice":
        return api.Discrete(one.options)
    return api.IntInterval(one.low, one.high) if one.kind == "int" else api.RealInterval(one.low, one.high)
