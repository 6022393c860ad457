"""A run without its export: audit, train, evaluate. `train` with the same Config goes on from there, and exports."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data import pipeline, sources
from kerasft.evaluation import scoring
from kerasft.job import served_baseline
from kerasft.job.train_phases import record_seconds, train_phases
from kerasft.settings.config import Config
from kerasft.storage import checkpoints, run_folder, run_lock, weight_delta
from kerasft.training import forward_speed

# Seconds for which the network's forward pass is timed.
SECONDS_TO_TIME = 2.0


@dataclass(frozen=True)
class Scored:
    """What a run without export has measured.

    Attributes:
        figures: the metrics of `test` and `val`, as in `metrics.json`.
        phases: the rows of `phases`, as in `metrics.json`.
        seconds: the times of `audit`, `train` and `evaluate`.
        earlier_seconds: of earlier starts, which are part of `train`.
        parameters: of the trained network.
        stored_bytes: of `delta.npz` if the run wrote one, else of all weights.
        images_per_second: of the network in batches of 32, in float32.
    """

    figures: dict[str, dict[str, Any]]
    phases: list[dict[str, Any]]
    seconds: dict[str, float]
    earlier_seconds: float
    parameters: int
    stored_bytes: int
    images_per_second: float


@pipeline.user_errors()
def train_and_score(config: Config, framing: str | None = None) -> Scored:
    """Trains and evaluates a Config in its run folder, or goes on where that was stopped.

    Its checkpoint stays, so that `train` finishes the run without training it again.

    Args:
        config: the settings.
        framing: that a run of the same splits has chosen under `--framing=auto`; None chooses here.

    Raises:
        UserError: something is wrong with the Config, the data or the run folder.
    """
    began = time.monotonic()
    listing = sources.load(config)
    # `train` finishes the run later, so a wrong --baseline is said now.
    served_baseline.open_baseline(config, listing.task, listing.classes)
    folder, _ = run_folder.find(config, listing.name)
    seconds: dict[str, float] = {}
    with run_lock.locked(folder):
        folder, _ = run_folder.open_folder(config, listing.name)
        done = train_phases(config, listing, folder, folder, seconds, began, framing)
        with record_seconds(seconds, "evaluate"), done.noting_disk_space():
            evaluation = done.evaluate()
        checkpoints.keep_newest(folder)
    weights = done.network.model.get_weights()
    predict = scoring.make_predictor(done.network.model)
    return Scored(
        figures=evaluation.figures,
        phases=[record.to_json() for record in done.trained.state.records],
        seconds=seconds,
        earlier_seconds=done.trained.earlier_seconds,
        parameters=done.network.model.count_params(),
        stored_bytes=_stored_bytes(folder, weights),
        images_per_second=forward_speed.measure(predict, done.network.size, SECONDS_TO_TIME),
    )


def _stored_bytes(folder: Path, weights: list[np.ndarray]) -> int:
    delta = folder / weight_delta.FILE_NAME
    return delta.stat().st_size if delta.is_file() else sum(weight.nbytes for weight in weights)
