"""What a phase leaves behind where validation hardly tells anything."""

import warnings

import numpy as np
import pytest

from kerasft.evaluation.scoring import MIN_VALIDATION_IMAGES, Scorer
from kerasft.strategies.phase import Phase
from kerasft.training import weight_interpolation

PLANNED = [Phase("head", 0, 9, 1e-3), Phase("all", 1.0, 30, 1e-4), Phase("all", 1.0, 90, 1e-4, conditional=True)]


@pytest.mark.parametrize("pictures", [1, 2, MIN_VALIDATION_IMAGES - 1])
def test_few_pictures_choose_nothing(pictures):
    """The end of the phase as it is, without a temperature, and without a warning of NumPy's."""
    labels = np.arange(pictures) % 2

    def outputs_at(candidate, alpha):
        return (1 - 2 * alpha) * 9.0 * np.eye(2)[labels]  # whatever the losses say

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = weight_interpolation.choose(outputs_at, Scorer("single_label", labels), 2, weight_interpolation.ALPHAS)
    assert chosen[:2] == (1.0, 1.0)
    assert chosen.candidate == 0
    unfit = weight_interpolation.choose(
        lambda candidate, alpha: np.full((pictures, 2), np.nan), Scorer("single_label", labels), 2, (1.0,)
    )
    assert unfit == weight_interpolation.UNDONE


def test_under_five_pictures_the_solved_head_stands_and_nothing_follows():
    assert weight_interpolation.judgeable(PLANNED, MIN_VALIDATION_IMAGES, solved=True) == PLANNED
    (only,) = weight_interpolation.judgeable(PLANNED, MIN_VALIDATION_IMAGES - 1, solved=True)
    assert (only.kind, only.epochs) == ("head", 0)
    assert weight_interpolation.judgeable(PLANNED, 1, solved=False) == PLANNED[:1]  # an answer is needed at all
