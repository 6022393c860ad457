"""Boosted trees on features: where they are missing, few or constant, and that they are the same again."""

import sys

import numpy as np
import pytest

from kerasft.evaluation.scoring import Scorer
from kerasft.probes import boosted_trees, reference_models
from kerasft.probes.reference_models import Features
from kerasft.settings.errors import UserError


def _rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UserError, match=r"--boosted_trees: needs LightGBM: pip install 'kerasft\[baselines\]'"):
        boosted_trees.load()


def test_trees_find_what_no_line_parts_and_come_out_the_same_again():
    train, val, test = (_rows(count, seed) for count, seed in ((400, 1), (100, 2), (200, 3)))
    labels = [(np.abs(rows[:, 0]) > 0.7).astype(np.int32) for rows in (train, val, test)]
    found = [boosted_trees.fit(train, labels[0], val, 2, Scorer("single_label", labels[1]), 0) for _ in range(2)]
    outputs = [answer(test) for answer, _ in found]
    np.testing.assert_array_equal(*outputs)
    assert Scorer("single_label", labels[2]).score(outputs[0]) > 0.85
    assert found[0][1] == found[1][1] > 1000


def test_a_label_that_never_varies_gets_its_log_odds():
    train, labels = _rows(40, 0), np.zeros((40, 2), np.float32)
    labels[:, 0] = train[:, 0] > 0
    # Three validation images stop nothing.
    answer, _ = boosted_trees.fit(train, labels, train[:3].copy(), 2, Scorer("multi_label", labels[:3]), 0)
    outputs = answer(train)
    np.testing.assert_allclose(outputs[:, 1], np.log(0.5 / 40.5))
    assert ((outputs[:, 0] > 0) == labels[:, 0]).mean() > 0.9


def test_too_much_is_left_out(monkeypatch):
    monkeypatch.setattr(boosted_trees, "MAX_VALUES", 10)
    rows, labels = _rows(30, 0), np.arange(30, dtype=np.int32) % 2
    features = Features(rows, rows, rows, labels, 2)
    assert "boosted_trees" not in reference_models.fit(features, Scorer("single_label", labels), seed=0)
