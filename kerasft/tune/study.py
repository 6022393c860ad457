"""The trials of a search: each is run, recorded in a folder of its own, and passed by where it fails."""

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
from kerasft.tune.hypermodel import HyperModel, forget
from kerasft.tune.oracles import Kept


class Study(BaseTuner):
    """A tuner that runs the trials of an oracle, here or as a worker of a chief elsewhere (KerasTuner's own).

    Args:
        oracle: that draws the values; its space is declared.
        hypermodel: that trains them.
        folder: of the search; trials are recorded in `trials/ID`, KerasTuner's state in `tuner`.
        ended: called after each trial with its row.
    """

    def __init__(self, oracle: Kept, hypermodel: HyperModel, folder: Path, ended: Callable[[dict], None]):
        self.folder, self.ended = folder, ended
        super().__init__(oracle, hypermodel, directory=str(folder), project_name="tuner")

    def run_trial(self, trial: Any, **_: Any) -> dict[str, float]:
        """Trains a trial's values; the figures of the validation split.

        Raises:
            FailedTrialError: whatever went wrong; the row says it.
        """
        place = self.folder / "trials" / trial.trial_id
        row = run_folder.read_json(place / "trial.json")
        if row.get("values") != _searched(trial):
            shutil.rmtree(place, ignore_errors=True)
            row = {"trial": trial.trial_id, "values": _searched(trial), "score": None, "status": "RUNNING"}
            row |= {"seconds": 0.0, "epochs": 0, "error": None, "measures": {}}
            run_folder.write_json(place / "trial.json", row)
        if row["status"] == "RUNNING":  # else: killed between this file and KerasTuner's
            row = self._run(trial, place, row)
            run_folder.write_json(place / "trial.json", row)
        self.ended(row)
        if row["status"] == "FAILED":
            raise keras_tuner.errors.FailedTrialError(row["error"])
        return row["measures"]

    def save(self) -> None:
        """Writes KerasTuner's state atomically."""
        if not self._is_worker():
            self.oracle.save()
        run_folder.write_json(Path(self._get_tuner_fname()), self.get_state())

    def _try_run_and_update_trial(self, trial: Any, *_: Any, **__: Any) -> None:
        """As KerasTuner's, which prints the traceback of a trial that fails."""
        try:
            self._run_and_update_trial(trial)
            trial.status = "COMPLETED"
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, trial.message = "FAILED", str(error)

    def _populate_initial_space(self) -> None:
        """Nothing: the oracle was given the whole space."""

    def _run(self, trial: Any, place: Path, row: dict[str, Any]) -> dict[str, Any]:
        """Trains, or goes on where a killed process was; the finished row."""
        started = time.monotonic()
        hypermodel, hp = self.hypermodel, trial.hyperparameters
        forget()
        try:
            with console.silence():
                model = hypermodel.build(hp)
                found = hypermodel.fit(hp, model, folder=place, epochs=hp.values.get("tuner/epochs"))
            name = self.oracle.objective.name
            if found[name] is None or not math.isfinite(found[name]):
                raise UserError(f"--objective: cannot be measured on these validation pictures. Received: {name!r}")
            row |= {"score": found[name], "status": "COMPLETED", "measures": found}
            row["epochs"] = sum(record["epochs"] for record in hypermodel.records)
            run_folder.write_json(place / "config.json", asdict(hypermodel.trained))
        except Exception as error:  # noqa: BLE001 - a trial may fail at anything; the others go on
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            row["status"], row["error"] = "FAILED", kind + " ".join(str(error).split())[:500]
            text = traceback.format_exc()
            run_folder.write(place / "error.txt", lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        row["seconds"] = round(time.monotonic() - started, 3)
        checkpoints.remove(place)
        shutil.rmtree(place / "phases", ignore_errors=True)  # the weights: the best Config is trained again
        return row


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the finished trials, in their order."""
    found = [json.loads(path.read_text()) for path in (folder / "trials").glob("*/trial.json")]
    return sorted((row for row in found if row["status"] != "RUNNING"), key=lambda row: row["trial"])


def _searched(trial: Any) -> dict[str, Any]:
    """The values of a trial by name, with the epochs that hyperband gives it."""
    values = trial.hyperparameters.values
    found = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    return found | ({"epochs": values["tuner/epochs"]} if "tuner/epochs" in values else {})
