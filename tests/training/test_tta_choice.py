"""`--tta=auto`: mirror images are averaged only where validation measurably gains by it."""

import numpy as np
import pytest

from kerasft.evaluation.scoring import Scorer
from kerasft.training import tta_choice

COUNT = 200


def _outputs(task):
    """A Scorer, outputs with noise, and others with half of its variance."""
    rng = np.random.default_rng(0)
    if task == "regression":
        labels = rng.normal(size=(COUNT, 2)).astype(np.float32)
        truth, scorer = labels, Scorer(task, labels, labels.std(0))
    elif task == "multi_label":
        labels = rng.integers(0, 2, (COUNT, 3)).astype(np.float32)
        truth, scorer = 4 * labels - 2, Scorer(task, labels)
    else:
        labels = rng.integers(0, 3, COUNT)
        truth, scorer = 3.0 * np.eye(3)[labels], Scorer(task, labels)
    one, other = (truth + rng.normal(0, 2, truth.shape) for _ in range(2))
    return scorer, one, (one + other) / 2


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_auto_mirrors_where_the_loss_is_measurably_lower(task):
    scorer, noisy, averaged = _outputs(task)
    chosen = tta_choice.choose("auto", scorer, noisy, averaged)
    assert chosen.tta == "flip"
    assert [row["choice"] for row in chosen.table] == ["none", "flip"]
    assert chosen.table[1]["loss"] < chosen.table[0]["loss"]
    assert all(("accuracy" in row) == (task == "single_label") for row in chosen.table)
    assert "standard error" in chosen.reason
    assert tta_choice.choose("auto", scorer, averaged, noisy).tta == "none"
    assert tta_choice.choose("auto", scorer, noisy, noisy).tta == "none"
    assert tta_choice.choose("flip", scorer, averaged, noisy)[:2] == ("flip", "as --tta says")


def test_few_validation_images_cannot_tell():
    scorer, noisy, averaged = _outputs("single_label")
    few = Scorer("single_label", scorer.labels[:4])
    chosen = tta_choice.choose("auto", few, noisy[:4], averaged[:4])
    assert chosen.tta == "none"
    assert chosen.reason.startswith("4 validation images")
