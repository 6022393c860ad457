"""A run without its export: the same run as `train`, which then goes on from there."""

from dataclasses import replace

import numpy as np
import pytest

from kerasft.job import score, train, train_phases
from kerasft.settings.config import Config
from kerasft.storage import checkpoints


@pytest.mark.large
def test_what_is_scored_is_finished_by_train_without_training(photos, tiny, tmp_path, monkeypatch):
    config = Config(
        data=f"folder:{photos}",
        backbone=tiny,
        image_size=32,
        batch_size=16,
        precision="float32",
        augment="none",
        phases="bias(epochs=1)",
        run_dir=str(tmp_path / "run"),
        export_dir=str(tmp_path / "saved"),
        tensorboard=False,
    )
    scored = score.train_and_score(config)
    folder = tmp_path / "run"
    assert scored.stored_bytes == (folder / "delta.npz").stat().st_size
    assert scored.images_per_second > 0
    assert [phase["epochs"] for phase in scored.phases] == [0, 1]
    assert not (folder / "metrics.json").exists()
    assert sum((folder / name).exists() for name in checkpoints.FILE_NAMES) == 1
    with np.load(folder / "predictions.npz") as stored:
        assert stored["losses"].mean() == pytest.approx(scored.figures["test"]["loss"], abs=1e-6)
    monkeypatch.setattr(train_phases.trainer, "run_phase", None)
    metrics = train.train(replace(config, keep_cache=True, cache_dir=str(tmp_path / "cache"))).metrics
    assert metrics["test"]["loss"] == pytest.approx(scored.figures["test"]["loss"], abs=1e-6)
    assert metrics["phases"] == scored.phases
    # What was trained in the first process counts.
    trained = sum(phase["seconds"] for phase in scored.phases)
    assert scored.earlier_seconds == 0 and scored.seconds["train"] >= trained
    assert trained < metrics["seconds"]["train"] < metrics["seconds"]["total"]
    assert not any((folder / name).exists() for name in checkpoints.FILE_NAMES)
