"""Several labels, and values, through the real command: from a table to what is served."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

SMALL = ("--head_init=glorot_uniform", "--batch_size=16", "--notensorboard")
SERVE = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
with np.load("run/predictions.npz") as stored:
    stored = dict(stored)
contents = [open(sys.argv[2] + "/" + name, "rb").read() for name in stored["ids"]]
answer = {k: v.numpy() for k, v in loaded.signatures["serving_default"](image_bytes=tf.constant(contents)).items()}
"""


def _serve(place, path, root, check):
    line = [sys.executable, "-c", SERVE + check + "\nprint('alike')", path, str(root)]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "alike", done.stderr


@pytest.mark.large
def test_several_labels(two_digits, tiny, command, tmp_path):
    flags = (
        f"--data=csv:{two_digits}",
        f"--backbone={tiny}",
        *SMALL,
        "--phases=all(epochs=30, lr=3e-3, batch_norm=train)",
        "--augment=none",
        "--surgery=activation(relu=gelu, blocks=0.5) | dropout(0.05)",
    )
    done = command(*flags, "--run_dir=run", "--class_weights=balanced", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["task"] == "multi_label"
    assert metrics["classes"] == [f"digit {i}" for i in range(5)]
    test = metrics["test"]
    assert test["map"] > 0.5  # by chance 0.36
    assert {"micro_f1", "macro_f1", "exact_match", "ece", "loss", "n", "per_class"} <= test.keys()
    assert "val_map_after" in metrics["phases"][-1]
    # The features of the frozen network are found again after all of it was trained.
    assert metrics["baselines"]["nearest_neighbours"].keys() == {
        "map",
        "loss",
        "seconds",
        "bytes",
        "difference",
        "loss_difference",
    }
    assert "What would do as well" in (tmp_path / "run" / "report.html").read_text()
    _serve(
        tmp_path,
        metrics["export"]["path"],
        two_digits.parent,
        """
assert np.abs(answer["probabilities"] - stored["probabilities"]).max() < 1e-4
sure = np.abs(stored["probabilities"] - stored["thresholds"]) > 1e-3
assert ((answer["predicted"] == (stored["probabilities"] >= stored["thresholds"])) | ~sure).all()
assert answer["classes"].shape == answer["scores"].shape == (len(contents), 5)
assert stored["labels"].shape == answer["probabilities"].shape
""",
    )
    out = command(
        "--mode=predict",
        f"--model={metrics['export']['path']}",
        f"--images={two_digits.parent}/*.png",
        "--out=out.csv",
        cwd=tmp_path,
    )
    assert out.returncode == 0, out.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        found = {row["path"].rpartition("/")[2]: set(row["labels"].split("|")) for row in csv.DictReader(file)}
    with np.load(tmp_path / "run" / "predictions.npz") as stored:
        names = stored["classes"]
        expected = {i: set(names[p >= stored["thresholds"]]) for i, p in zip(stored["ids"], stored["probabilities"])}
    assert np.mean([found[name] == (labels or {""}) for name, labels in expected.items()]) > 0.98
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.large
def test_values(angles, command, tmp_path):
    flags = (
        f"--data=csv:{angles}",
        "--weights=none",
        "--image_size=32",
        *SMALL,
        "--phases=all(epochs=30, lr=3e-3, batch_norm=train)",
        "--augment=none",
    )
    done = command(*flags, "--run_dir=run", "--loss=huber", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["task"], metrics["classes"]) == ("regression", ["angle", "height"])
    test = metrics["test"]
    assert test["r2"] > 0.7
    assert test["per_target"]["angle"]["mae"] < 15
    assert test["per_target"]["height"]["mae"] < 2000
    assert test["mae"] == pytest.approx(np.mean([row["mae"] for row in test["per_target"].values()]))
    _serve(
        tmp_path,
        metrics["export"]["path"],
        angles.parent,
        """
assert answer.keys() == {"values"}
assert (np.abs(answer["values"] - stored["values"]) / stored["labels"].std(0)).max() < 1e-4
assert np.abs(stored["values"] - stored["labels"])[:, 0].mean() < 15
""",
    )
    out = command(
        "--mode=predict",
        f"--model={metrics['export']['path']}",
        f"--images={angles.parent}/00?.png",
        "--out=out.csv",
        cwd=tmp_path,
    )
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "path,angle,height,error"
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
