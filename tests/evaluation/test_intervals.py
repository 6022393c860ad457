"""Intervals of shares, of means and of average precision."""

import numpy as np
import pytest
from sklearn import metrics as sk

from kerasft.evaluation import intervals


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    """Newcombe 1998, table I, method 3."""
    assert intervals.wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = intervals.bootstrap(lambda weights: float(weights @ values) / 400, 400)
    assert (high - low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1, abs=0.1)
    assert intervals.bootstrap(lambda weights: float(weights @ values) / 400, 400) == (low, high)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns_also_with_weights_and_ties(ties):
    rng = np.random.default_rng(5)
    scores, labels = rng.random((200, 4)), rng.random((200, 4)) < 0.3
    scores = scores.round(1) if ties else scores
    weights = rng.integers(0, 4, 200)
    found = intervals.average_precisions(scores, labels)(weights)
    expected = [sk.average_precision_score(labels[:, k], scores[:, k], sample_weight=weights) for k in range(4)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(intervals.average_precisions(scores, labels * 0)(weights)).all()
