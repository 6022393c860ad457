"""Conformal prediction: the quantile by hand, and the promise over many draws."""

import numpy as np
import pytest

from kerasft.evaluation import conformal


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_number_of_images_that_a_coverage_needs(coverage, needed):
    assert conformal.needed_images(coverage) == needed
    assert conformal.corrected_quantile(np.arange(needed), coverage) == needed - 1
    with pytest.raises(ValueError, match=f"needs {needed} scores; there are {needed - 1}"):
        conformal.corrected_quantile(np.arange(needed - 1), coverage)


def test_the_quantile_is_the_corrected_rank_of_each_column():
    # ceil(20 * 0.9) = 18: the 18th smallest of 19.
    scores = np.stack([np.arange(19.0), 100 * np.arange(19.0)[::-1]], 1)
    np.testing.assert_array_equal(conformal.corrected_quantile(scores, 0.9), [17.0, 1700.0])


def test_a_set_has_the_labels_that_are_likely_enough_and_may_be_empty():
    probabilities = np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33]])
    found = conformal.Conformal(0.9, min_probability=0.4)
    expected = [[True, False, False], [True, True, False], [False, False, False]]
    assert conformal.label_sets(found, probabilities).tolist() == expected
    figures = conformal.figures_of_sets(found, probabilities, np.array([0, 1, 2]))
    assert figures["observed"] == pytest.approx(2 / 3)
    assert (figures["mean_set_size"], figures["empty_sets"]) == (1.0, pytest.approx(1 / 3))


def test_the_least_probability_is_that_of_the_true_labels():
    probabilities = np.linspace(0.01, 0.19, 19)[:, None] * [1, 0] + [0, 0.5]
    # The 18th largest of 19 probabilities of the true label.
    assert conformal.fit_sets(probabilities, np.zeros(19, int), 0.9).min_probability == pytest.approx(0.02)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_truth_as_often_as_promised(coverage):
    rng, observed = np.random.default_rng(0), []
    for _ in range(200):
        logits = rng.normal(0, 2, (300, 4))
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        labels = (rng.random((300, 1)) > probabilities.cumsum(-1)).sum(-1)
        found = conformal.fit_sets(probabilities[:100], labels[:100], coverage)
        observed.append(conformal.figures_of_sets(found, probabilities[100:], labels[100:])["observed"])
    # Between coverage and coverage + 1 / (n + 1), and four standard errors of what was drawn.
    assert coverage - 0.01 < np.mean(observed) < coverage + 0.02


def test_intervals_hold_each_target_as_often_as_promised():
    rng, observed = np.random.default_rng(0), []
    for _ in range(200):
        values = rng.normal(0, 1, (300, 2))
        labels = values + rng.standard_t(3, (300, 2)) * [1, 100]
        found = conformal.fit_intervals(values[:100], labels[:100], 0.9)
        figures = conformal.figures_of_intervals(found, values[100:], labels[100:], ("a", "b"))
        observed.append(list(figures["by_target"].values()))
        assert figures["observed"] == min(observed[-1])
        assert figures["width"]["b"] == 2 * found.radius[1]
    np.testing.assert_allclose(np.mean(observed, 0), 0.9, atol=0.012)
