"""The section about a served model."""

import numpy as np
import pytest
from two_models import CLASSES, compared, single

from kerasft.evaluation import gate
from kerasft.evaluation.gate import Both, Side
from kerasft.report import baseline_section
from kerasft.storage import baseline_file


def test_only_images_that_are_shown_are_read(tmp_path):
    right = [True] * 40
    both = single(right, [False] * 30 + [True] * 10, [0, 1] * 20)
    baseline_file.write(tmp_path, both)
    found = {"given": "x", "path": "x/1", "asked": True, **compared(both)}
    metrics = {
        "task": "single_label",
        "classes": list(CLASSES),
        "baseline": found,
        "test": {},
        "export": {"published": False},
    }
    read = []

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        read.extend(rows)
        return np.zeros((len(rows), 8, 8, 3), np.uint8)

    shown = baseline_section.section(metrics, tmp_path, thumbnails)
    (_, n, cards), (_, gained, none) = shown["flips"]
    assert (n, len(cards), gained, none) == (30, baseline_section.MAX_SHOWN, 0, [])
    assert len(read) == baseline_section.MAX_SHOWN
    assert cards[0]["lines"][0][0] == "labelled"
    assert [row[0] for row in shown["overall"]] == ["accuracy", "loss"]
    assert baseline_section.section({**metrics, "baseline": None}, tmp_path, thumbnails) is None


@pytest.mark.parametrize(("quantile", "titles"), [(0.9, ["mean pinball loss", "loss"]), (None, ["loss"])])
def test_a_quantile_is_not_judged_by_its_absolute_error(tmp_path, quantile, titles):
    """An earlier version recorded that one."""
    labels = np.arange(20.0, dtype=np.float32)[:, None]
    sides = [Side(labels + gap, np.full(20, gap)) for gap in (1.0, 2.0)]
    both = Both(np.arange(20).astype(str), labels, *sides)
    baseline_file.write(tmp_path, both)
    found = gate.compare("regression", ("x",), both, lambda answers: 0.5, None, quantile)
    metrics = {"task": "regression", "classes": ["x"], "test": {"quantile": 0.9}, "export": {}}
    metrics["baseline"] = {"path": "x/1", "asked": True, **found}
    shown = baseline_section.section(metrics, tmp_path, lambda rows: rows)
    assert [row[0] for row in shown["overall"]] == titles
