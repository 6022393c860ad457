"""The section about a served model."""

import numpy as np
from two_models import CLASSES, compared, single

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
    of_quantile = baseline_section.section({**metrics, "test": {"quantile": 0.9}}, tmp_path, thumbnails)
    assert [row[0] for row in of_quantile["overall"]] == ["loss"]
    assert baseline_section.section({**metrics, "baseline": None}, tmp_path, thumbnails) is None
