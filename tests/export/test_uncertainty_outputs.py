"""What the graph gives beside the answers is what NumPy computes; what differs is not published."""

import numpy as np
import pytest
import tensorflow as tf

from kerasft.evaluation import novelty
from kerasft.evaluation.conformal import Conformal
from kerasft.evaluation.novelty import Novelty
from kerasft.export import proof, uncertainty_outputs
from kerasft.export.uncertainty_outputs import Uncertainty

RNG = np.random.default_rng(0)
FEATURES = RNG.gamma(1, 3, (40, 8)).astype(np.float32)
LOGITS = RNG.normal(0, 4, (40, 3)).astype(np.float32)
NEIGHBOURS = novelty.unit_length(FEATURES[::2]).astype(np.float32)


def _both(found: Uncertainty, answers: np.ndarray):
    given = uncertainty_outputs.serve(found, *map(tf.constant, (FEATURES, LOGITS, answers.astype(np.float32))))
    expected = uncertainty_outputs.expected(found, FEATURES, LOGITS, answers)
    return {name: value.numpy() for name, value in given.items()}, expected


@pytest.mark.parametrize("found", [Novelty("distance", 0.9, 0.05, NEIGHBOURS), Novelty("energy", 0.9, -3.0)])
def test_the_novelty_is_that_of_numpy(found):
    given, expected = _both(Uncertainty(found), LOGITS)
    np.testing.assert_allclose(given["novelty"], expected["novelty"][0], rtol=1e-4, atol=1e-6)
    assert given["known"].any()
    assert not given["known"].all()
    assert proof.compare_extra_outputs("model", given, expected)["extra_outputs"]["known"] == 0


def test_sets_and_intervals_are_those_of_numpy():
    answers = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    given, expected = _both(Uncertainty(conformal=Conformal(0.9, min_probability=0.3)), answers)
    assert proof.compare_extra_outputs("model", given, expected) == {"extra_outputs": {"label_set": 0}}
    assert given["label_set"].shape == (40, 3)
    given, expected = _both(Uncertainty(conformal=Conformal(0.9, radius=np.array([1.0, 2.0, 3.0]))), LOGITS)
    np.testing.assert_allclose(given["upper"] - given["lower"], np.tile([2.0, 4.0, 6.0], (40, 1)), rtol=1e-5)
    assert proof.compare_extra_outputs("model", given, expected)["extra_outputs"].keys() == {"lower", "upper"}


def test_nothing_asked_adds_nothing():
    given, expected = _both(Uncertainty(), LOGITS)
    assert (given, expected) == ({}, {})
    assert proof.compare_extra_outputs("model", given, expected) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.pop("known"), "the model does not give known"),
        (lambda given: given.update(known=~given["known"]), "known of the model differs"),
        (lambda given: given.update(novelty=given["novelty"] * 1.1), "novelty of the model differs"),
        (lambda given: given.update(novelty=given["novelty"] * np.nan), "novelty of the model differs"),
    ],
)
def test_a_difference_is_refused(change, message):
    given, expected = _both(Uncertainty(Novelty("distance", 0.9, 0.05, NEIGHBOURS)), LOGITS)
    change(given)
    with pytest.raises(proof.ParityError, match=message):
        proof.compare_extra_outputs("model", given, expected)
