"""The rows of slimmer networks in the table of artefacts."""

import json

import numpy as np
import pytest

from kerasft.export import model_folders
from kerasft.job import slim_steps

IDS = np.array(["a", "b", "c", "d"])
OUTPUTS = np.eye(2)[[0, 0, 1, 1]]
METRICS = {"test": {"loss": 0.3}}


@pytest.fixture
def run(tmp_path):
    """A run folder with two kept steps, of which the SavedModel of the second is gone."""
    place = tmp_path / "run/slim/flops-0.5"
    steps = [{"loss": 0.3, "run_dir": "run"}]
    # The second step has left out an image, and answers in another order.
    answers = {"1-image_size": (IDS, [0, 1, 1, 1]), "2-prune": (IDS[[3, 1, 0]], [0, 0, 0])}
    for name, (ids, labels) in answers.items():
        (place / name).mkdir(parents=True)
        np.savez(place / name / "predictions.npz", ids=ids, probabilities=np.eye(2)[labels])
        figures = {
            "accuracy": 0.9,
            "interval": [0.8, 0.95],
            "loss": 0.4,
            "n": len(ids),
            "bytes": 9,
            "surgery": name[2:],
        }
        figures |= {"multiplications": 5, "parameters": 7, "difference": None, "path": (tmp_path / name).as_posix()}
        steps.append(figures | {"run_dir": (place / name).as_posix()})
    (tmp_path / "1-image_size").mkdir()
    (place / "slim.json").write_text(json.dumps({"rows": steps}))
    return tmp_path / "run"


def test_each_kept_step_has_a_row_that_names_its_parent(run):
    first, second = slim_steps.rows(run, METRICS, "accuracy", IDS, OUTPUTS)
    assert (first["artefact"], first["parent"], first["published"]) == ("flops-0.5/1-image_size", "savedmodel", True)
    assert (second["parent"], second["published"]) == (first["artefact"], False)
    assert second["reason"] == "its folder is not there any more"
    # Image by image, by their names.
    assert (first["agreement"], second["agreement"]) == (0.75, pytest.approx(2 / 3))
    assert (first["accuracy"], first["interval"], first["surgery"]) == (0.9, [0.8, 0.95], "image_size")


def test_a_step_whose_number_another_run_has_is_not_there_any_more(run, tmp_path):
    (run / "slim/flops-0.5/1-image_size/metrics.json").write_text(json.dumps({"run": "a", "weights_sha256": "sum"}))
    about = tmp_path / "1-image_size" / model_folders.METADATA_FILE
    about.parent.mkdir()
    for name in ("a", "b"):
        about.write_text(json.dumps({"run": name}))
        row = slim_steps.rows(run, METRICS, "accuracy", IDS, OUTPUTS)[0]
        assert row["published"] == (name == "a")
    assert row["reason"] == "its folder is not there any more"


def test_steps_of_an_earlier_run_in_the_folder_are_left_out(run, capsys):
    assert slim_steps.rows(run, {"test": {"loss": 0.2}}, "accuracy", IDS, OUTPUTS) == []
    assert "is of an earlier run" in capsys.readouterr().out


def test_a_run_without_steps_has_no_rows(tmp_path):
    assert slim_steps.rows(tmp_path, METRICS, "accuracy", IDS, OUTPUTS) == []


def test_a_row_of_an_earlier_version_gets_its_score_in_deviations_from_the_run_of_the_step(run, capsys):
    place = run / "slim/flops-0.5"
    stored = json.loads((place / "slim.json").read_text())
    for row in stored["rows"][1:]:
        row["mae"] = row.pop("accuracy")
    (place / "slim.json").write_text(json.dumps(stored))
    (place / "1-image_size/metrics.json").write_text(json.dumps({"test": {"mae": 0.9, "scaled_mae": 0.2}}))
    first, second = slim_steps.rows(run, METRICS, "scaled_mae", IDS, OUTPUTS)
    assert first["scaled_mae"] == 0.2 and first["interval"] == [0.8, 0.95]
    # The run of the second step is not there any more.
    assert "scaled_mae" not in second and "mae" not in second and second["loss"] == 0.4
