"""The trials of a search. Each is trained and recorded in a folder of its own. A trial that fails does not stop the search."""

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from kerasft.console import console
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints, run_folder
from kerasft.tune import processes
from kerasft.tune.hypermodel import HyperModel, free_networks
from kerasft.tune.oracles import ResumableOracle


class Study(BaseTuner):
    """A KerasTuner tuner that runs the trials of an oracle. In a worker, the oracle is that of the chief.

    Args:
        oracle: draws the values. Its search space is declared already.
        hypermodel: builds and trains the models.
        folder: of the search. Trials are recorded in `trials/ID`, KerasTuner's state in `tuner`.
        report_trial: called after each trial with its row of `tune.json`.
    """

    def __init__(
        self, oracle: ResumableOracle, hypermodel: HyperModel, folder: Path, report_trial: Callable[[dict], None]
    ):
        self.folder, self.report_trial = folder, report_trial
        super().__init__(oracle, hypermodel, directory=str(folder), project_name="tuner")

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Trains a trial and returns its validation metrics.

        Raises:
            FailedTrialError: the training has failed. The row has the reason.
        """
        folder = self.folder / "trials" / trial.trial_id
        with processes.alone_in_trial(folder):
            row = self._finished_row(trial, folder)
        self.report_trial(row)
        if row["status"] == "FAILED":
            raise keras_tuner.errors.FailedTrialError(row["error"])
        return row["measures"]

    def save(self) -> None:
        """Writes KerasTuner's state atomically."""
        if not self._is_worker():
            self.oracle.save()
        run_folder.write_json(Path(self._get_tuner_fname()), self.get_state())

    def _try_run_and_update_trial(self, trial: Any, *_: Any, **__: Any) -> None:
        """Does what KerasTuner's method does, but prints no traceback of a failed trial."""
        try:
            self._run_and_update_trial(trial)
            trial.status = "COMPLETED"
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, trial.message = "FAILED", str(error)

    def _populate_initial_space(self) -> None:
        """Does nothing: the oracle has the whole search space already."""

    def _finished_row(self, trial: Any, folder: Path) -> dict[str, Any]:
        """Returns the row of a trial, which is trained unless it has been already."""
        row = run_folder.read_json(folder / "trial.json")
        if row.get("values") != _trial_values(trial):
            shutil.rmtree(folder, ignore_errors=True)
            row = {"trial": trial.trial_id, "values": _trial_values(trial), "score": None, "status": "RUNNING"}
            row |= {"seconds": 0.0, "epochs": 0, "error": None, "measures": {}}
            run_folder.write_json(folder / "trial.json", row)
        # Any other status: the process was killed after this file was written and before KerasTuner's was, or another
        # process has trained the trial meanwhile.
        if row["status"] == "RUNNING":
            row = self._train_trial(trial, folder, row)
            run_folder.write_json(folder / "trial.json", row)
        return row

    def _train_trial(self, trial: Any, folder: Path, row: dict[str, Any]) -> dict[str, Any]:
        """Trains a trial, or resumes one whose process was killed. Returns its finished row."""
        started = time.monotonic()
        hypermodel, hp = self.hypermodel, trial.hyperparameters
        free_networks()
        try:
            with console.silence():
                model = hypermodel.build(hp)
                metrics = hypermodel.fit(hp, model, folder=folder, epochs=hp.values.get("tuner/epochs"))
            name = self.oracle.objective.name
            score = metrics.get(name)
            if score is None or not math.isfinite(score):
                raise UserError(f"--objective: cannot be measured on these validation images. Received: {name!r}")
            row |= {"score": score, "status": "COMPLETED", "measures": metrics}
            row["epochs"] = sum(record["epochs"] for record in hypermodel.records)
            run_folder.write_json(folder / "config.json", asdict(hypermodel.trained_config))
        # A trial may raise any error. The next one is tried anyway.
        except Exception as error:  # noqa: BLE001
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            row["status"], row["error"] = "FAILED", kind + " ".join(str(error).split())[:500]
            text = traceback.format_exc()
            run_folder.write(folder / "error.txt", lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        row["seconds"] = round(time.monotonic() - started, 3)
        checkpoints.remove(folder)
        # The weights are not needed: the best Config is trained again.
        shutil.rmtree(folder / "phases", ignore_errors=True)
        return row


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of the finished trials, in the order of their numbers."""
    rows = [json.loads(path.read_text()) for path in (folder / "trials").glob("*/trial.json")]
    return sorted((row for row in rows if row["status"] != "RUNNING"), key=lambda row: row["trial"])


def _trial_values(trial: Any) -> dict[str, Any]:
    """Returns the values of a trial by name, with the epochs that hyperband sets."""
    values = trial.hyperparameters.values
    searched = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    return searched | ({"epochs": values["tuner/epochs"]} if "tuner/epochs" in values else {})
