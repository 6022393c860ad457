"""A run of every strategy after another: what is exported answers as what was trained, and all of it is named."""

import json
from pathlib import Path

import pytest

from kerasft.export.proof import TOLERANCE
from kerasft.job import train
from kerasft.settings.config import Config
from kerasft.strategies import STRATEGIES, planning

PHASES = (
    "head(epochs=1) | top(0.5, epochs=1, lr=1e-3, head_lr=10, sam=0.05) | bias(epochs=1) | norm(epochs=1, l2sp=0.01) | "
    "lora(rank=2, epochs=2, lr=1e-2) | adapter(reduction=2, epochs=1) | surgical(epochs=1) | "
    "gradual(stages=2, epochs=1) | all(epochs=1, layer_decay=0.75) | quantised(epochs=1, lr=1e-3)"
)


@pytest.mark.large
def test_what_is_exported_answers_as_what_was_trained(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = Config(data=f"folder:{photos}", backbone=tiny, phases=PHASES, run_dir="run", head_init="glorot_uniform")
    metrics = train.train(config).metrics
    assert metrics["export"]["top1_agreement"] == metrics["artefacts"]["model.keras"]["top1_agreement"] == 1
    assert metrics["artefacts"]["model.keras"]["max_abs_diff"] <= TOLERANCE
    settled = json.loads(Path("run/settled.json").read_text())["phases"]
    assert [row["spec"] for row in metrics["phases"]] == settled
    assert {planning.parse(text).strategy for text in settled} == set(STRATEGIES)
    assert "layers=(" in next(text for text in settled if text.startswith("surgical"))
    page = Path("run/report.html").read_text()
    for part in ("lora(rank=2, alpha=16.0", "adapter(reduction=2.0", "gradual(stages=2, stage=1", "layer_decay=0.75"):
        assert part in page, part
    # In the table of phases, before the blocks are known.
    assert "chosen later" in capsys.readouterr().out
