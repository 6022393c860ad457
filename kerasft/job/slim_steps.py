"""The slimmer networks of a run, which `kerasft compress --target` has made of it, as rows of the table of its artefacts."""

from pathlib import Path
from typing import Any

import numpy as np

from kerasft.console import console
from kerasft.export.portable.publish import SAVED_MODEL
from kerasft.storage import run_folder

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
    for place in sorted((folder / FOLDER).glob(f"*/{FILE_NAME}")):
        steps = run_folder.read_json(place).get("rows", [])
        # The run may have been made anew since.
        if steps and steps[0]["loss"] != metrics["test"]["loss"]:
            console.say(f"warning: {place} is of an earlier run in this folder; its steps are left out")
            continue
        parent = SAVED_MODEL
        for step in steps[1:]:
            found.append(_row(step, place.parent, parent, score, ids, outputs))
            parent = found[-1]["artefact"]
    return found


def _row(step: Row, place: Path, parent: str, score: str, ids: np.ndarray, outputs: np.ndarray) -> Row:
    name, path = Path(step["run_dir"]).name, Path(step["path"])
    there = bool(step["path"]) and path.is_dir()
    row = {"artefact": f"{place.name}/{name}", "parent": parent, "path": step["path"], "published": there}
    row["reason"] = "" if there else "its folder is not there any more"
    copied = (score, "interval", "loss", "n", "bytes", "surgery", "multiplications", "parameters", "difference")
    row |= {key: step[key] for key in copied}
    predictions = place / name / "predictions.npz"
    if score == "accuracy" and predictions.is_file():
        with np.load(predictions, allow_pickle=False) as arrays:
            _, own, other = np.intersect1d(ids, arrays["ids"], return_indices=True)
            answers = arrays["probabilities"][other].argmax(-1)
        row["agreement"] = float((answers == outputs[own].argmax(-1)).mean())
    return row
