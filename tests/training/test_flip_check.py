"""Mirroring needs evidence: a probe that knows each class and target, and knows it in the mirror."""

import numpy as np
import pytest

from kerasft.evaluation.scoring import Scorer
from kerasft.training import flip_check

RNG = np.random.default_rng(0)


def _noise(*shape):
    return RNG.normal(0, 0.3, shape)


def _verdict(labels, plain, mirrored, names=("left", "right", "dog"), trained=None):
    constant = np.log(np.maximum(np.bincount(labels, minlength=len(names)), 0.5) / len(labels))
    scorer = Scorer("single_label", labels)
    return flip_check.verdict(scorer, plain, mirrored, labels if trained is None else trained, constant, names)


def _logits(labels, answer, sure=6.0):
    """Log probabilities that are mostly `answer`'s, with some noise: [N, C] scores by label."""
    return sure * np.asarray(answer)[labels] + _noise(len(labels), 3)


LABELS = np.arange(90) % 3
EYE = np.eye(3)
SWAPPED = EYE[[1, 0, 2]]
CONFUSED = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])


def test_a_probe_that_knows_the_classes_in_the_mirror_too_is_evidence():
    harmless, reason = _verdict(LABELS, _logits(LABELS, EYE), _logits(LABELS, EYE))
    assert harmless
    assert "times as high" in reason


def test_a_probe_that_knows_nothing_is_none():
    """Its losses are the same in the mirror, as they are of a probe that knows everything."""
    noise = _noise(90, 3)
    harmless, reason = _verdict(LABELS, noise, noise)
    assert not harmless
    assert reason == "the probe tells 'left' from 'right' not measurably better than a constant answer"


def test_nor_is_one_that_knows_the_class_but_not_its_side():
    """It tells dogs from the others, far better than a constant answer, and not left from right."""
    harmless, reason = _verdict(LABELS, _logits(LABELS, CONFUSED), _logits(LABELS, CONFUSED))
    assert not harmless
    assert "'left' from 'right'" in reason


def test_what_changes_in_the_mirror_is_not_mirrored():
    harmless, reason = _verdict(LABELS, _logits(LABELS, EYE), _logits(LABELS, SWAPPED))
    assert not harmless
    assert "times as high" in reason


def test_one_of_many_classes_that_changes_is_noticed():
    """The loss over all rises by less than a quarter."""
    labels = np.arange(600) % 20
    plain = 4 * np.eye(20)[labels] + _noise(600, 20)
    mirrored = plain.copy()
    mirrored[labels == 3] = plain[labels == 3] - 2 * np.eye(20)[3]
    names = tuple(map(str, range(20)))
    assert _verdict(labels, plain, plain, names).harmless
    harmless, reason = _verdict(labels, plain, mirrored, names)
    assert not harmless
    assert reason == "on mirrored images of '3' the probe's loss is measurably higher"


def test_a_class_of_few_images_is_no_evidence():
    labels = np.append(np.arange(60) % 2, [2] * 4)
    sure = 8 * EYE[labels] + _noise(64, 3)
    harmless, reason = _verdict(labels, sure, sure)
    assert not harmless
    assert reason == "4 validation images cannot show that the probe tells 'dog' from 'left' (needed: 5)"


def test_frequencies_alone_are_no_knowledge():
    labels = (np.arange(200) % 10 == 0).astype(int)
    logits = np.log([0.9, 0.1]) + 0.1 * _noise(200, 2)
    harmless, reason = _verdict(labels, logits, logits, ("often", "seldom"))
    assert not harmless
    assert "not measurably better than a constant answer" in reason


@pytest.mark.parametrize(
    ("known", "swapped", "expected"),
    [
        ((1, 1), (1, 1), ""),
        ((1, 0), (1, 0), "knows 'angle'"),
        ((1, 1), (1, -1), "times as high"),
        ((1, 0.04), (1, 0.04), "knows 'angle'"),
    ],
)
def test_each_target_has_to_be_known(known, swapped, expected):
    labels = RNG.normal(0, 1, (80, 2)) * [1000, 0.01]
    scale = labels.std(0)
    plain = labels * known + 0.2 * scale * RNG.normal(0, 1, (80, 2))
    mirrored = labels * swapped + 0.2 * scale * RNG.normal(0, 1, (80, 2))
    scorer = Scorer("regression", labels, scale)
    harmless, reason = flip_check.verdict(scorer, plain, mirrored, labels, labels.mean(0), ("size", "angle"))
    assert harmless == (not expected)
    assert expected in reason


@pytest.mark.parametrize("case", ["known", "side unknown", "swapped", "rare"])
def test_each_label_has_to_be_known(case):
    """`left`, `right` or neither; `dog` or not. Where the side is unknown, both are answered with the same chance."""
    side, dog = np.arange(120) % 4, (np.arange(120) // 4) % 2
    labels = np.stack([side == 0, side == 1, dog], 1).astype(float)
    if case == "rare":
        labels[labels[:, 0].cumsum() > 3, 0] = 0
    constant = np.log(labels.mean(0) / (1 - labels.mean(0)))
    plain = 10 * labels - 5 + _noise(120, 3)
    if case == "side unknown":
        either = labels[:, :2].max(1)
        plain[:, :2] = (5 * either - 5)[:, None] + _noise(120, 2)
    mirrored = plain[:, [1, 0, 2]] if case == "swapped" else plain
    names = ("left", "right", "dog")
    found = flip_check.verdict(Scorer("multi_label", labels), plain, mirrored, labels, constant, names)
    words = {"known": "times as high", "side unknown": "tells 'left' from 'right'"}
    words |= {"swapped": "times as high", "rare": "3 validation images cannot show"}
    assert found.harmless == (case == "known")
    assert words[case] in found.reason
