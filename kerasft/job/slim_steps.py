"""The slimmer networks of a run, which `kerasft compress --target` has made of it, as rows of the table of its artefacts."""

from pathlib import Path
from typing import Any

import numpy as np

from kerasft.console import console
from kerasft.export import model_folders
from kerasft.export.portable.publish import SAVED_MODEL
from kerasft.storage import predictions_file, run_folder

# The folder in the run folder, and the file in each of its subfolders.
FOLDER, FILE_NAME = "slim", "slim.json"

Row = dict[str, Any]


def rows(folder: Path, metrics: Row, score: str, ids: np.ndarray, outputs: np.ndarray) -> list[Row]:
    """A row for each step that was kept, with the SavedModel of the step.

    Args:
        folder: of the run.
        metrics: its `metrics.json`.
        score: its score, a key of the rows.
        ids: of its test images, str [N].
        outputs: its answers to them, float [N, C].

    Returns:
        The rows as in `compress.json`. `artefact` is the folder of the step's run below `RUN/slim`, `parent` the artefact whose
        network it was made of, and `surgery` how. `agreement` is with the run's network (not for regression).
    """
    found: list[Row] = []
    for path in sorted((folder / FOLDER).glob(f"*/{FILE_NAME}")):
        steps = run_folder.read_json(path).get("rows", [])
        # The run may have been made anew since.
        if steps and steps[0]["loss"] != metrics["test"]["loss"]:
            console.say(f"warning: {path} is of an earlier run in this folder; its steps are left out")
            continue
        parent = SAVED_MODEL
        for step in steps[1:]:
            found.append(_row(step, path.parent, parent, score, ids, outputs))
            parent = found[-1]["artefact"]
    return found


def with_score(row: Row, score: str, folder: Path | None = None) -> Row:
    """A row of `slim.json` with its score.

    Earlier versions wrote the mean error of several targets there, each in its own units, and not the one in deviations. The run of the
    row has that.

    Args:
        score: a key of the rows.
        folder: of the row's run; by default as the row names it.

    Returns:
        The row, or one with the score more; it is None where the run is not there any more.

    Raises:
        UserError: `metrics.json` of the run is damaged.
    """
    if score in row:
        return row
    metrics = run_folder.read_json((folder or Path(row["run_dir"])) / "metrics.json")
    return row | {score: metrics.get("test", {}).get(score)}


def _row(step: Row, folder: Path, parent: str, score: str, ids: np.ndarray, outputs: np.ndarray) -> Row:
    name, path = Path(step["run_dir"]).name, Path(step["path"])
    metrics = run_folder.read_json(folder / name / "metrics.json")
    # Its number may have been given to another run.
    there = bool(step["path"]) and path.is_dir() and not model_folders.of_other_runs(path, metrics)
    row = {"artefact": f"{folder.name}/{name}", "parent": parent, "path": step["path"], "published": there}
    row["reason"] = "" if there else "its folder is not there any more"
    step = with_score(step, score, folder / name)
    copied = (score, "interval", "loss", "n", "bytes", "surgery", "multiplications", "parameters", "difference")
    # An unknown score is left out, as in the row of an artefact that was not written.
    row |= {key: step[key] for key in copied if key != score or step[key] is not None}
    if score == "accuracy" and (folder / name / predictions_file.NAME).is_file():
        arrays = predictions_file.read(folder / name, "ids", "probabilities")
        _, own, other = np.intersect1d(ids, arrays["ids"], return_indices=True)
        answers = arrays["probabilities"][other].argmax(-1)
        row["agreement"] = float((answers == outputs[own].argmax(-1)).mean())
    return row
