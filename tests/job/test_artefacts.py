"""What a run records of its artefacts and of its evidence."""

import json
from pathlib import Path

import pytest

from kerasft.export.proof import TOLERANCE
from kerasft.job import train
from kerasft.networks import saved_files
from kerasft.settings.config import Config


def config(photos: Path, tiny: str) -> Config:
    return Config(data=f"folder:{photos}", backbone=tiny, phases="head", run_dir="run", augment="none")


def test_a_run_records_the_proof_of_its_keras_file_and_what_calibration_says(photos, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metrics = train.train(config(photos, tiny)).metrics
    assert metrics == json.loads(Path("run/metrics.json").read_text())
    proof = metrics["artefacts"]["model.keras"]
    assert proof["path"] == "run/model.keras" and Path(proof["path"]).is_file()
    assert (proof["n"], proof["top1_agreement"]) == (metrics["test"]["n"], 1.0)
    assert 0 <= proof["max_abs_diff"] <= TOLERANCE
    assert metrics["calibration"]["observed"] == pytest.approx(metrics["test"]["accuracy"])
    assert sum(row["n"] for row in metrics["calibration"]["bins"]) == metrics["test"]["n"]


@pytest.mark.large
def test_a_keras_file_that_cannot_be_read_again_is_told_and_the_run_ends(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    read = saved_files.read

    def refuses(path):
        if Path(path).name == "model.keras":
            raise ValueError("Requested the deserialization of a Lambda layer")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(saved_files, "read", refuses)
        metrics = train.train(config(photos, tiny)).metrics
    assert metrics["artefacts"]["model.keras"]["published"] is False
    assert "Lambda" in metrics["artefacts"]["model.keras"]["reason"]
    assert metrics["export"]["top1_agreement"] == 1
    assert not list(Path("run").glob("*model.keras")) and not list(Path("run").glob(".draft*"))
    assert "warning: export: Keras cannot load model.keras again (" in capsys.readouterr().out
    # A later start does not miss what was never there.
    train.train(config(photos, tiny))
    assert "is gone" not in capsys.readouterr().out
