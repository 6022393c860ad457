"""The importance of each searched setting for the score, estimated from the trials."""

from typing import NamedTuple

import numpy as np

# With fewer trials the rank correlation is more reliable than a random forest.
MIN_TRIALS_FOR_FOREST = 25
# A rank correlation over fewer trials is mostly chance.
MIN_TRIALS_FOR_CORRELATION = 6
# Permutations of each setting, for its permutation importance.
PERMUTATIONS = 20


class Axis(NamedTuple):
    """One searched setting over the trials.

    Attributes:
        name: as `--search` names it.
        positions: float [N], of each trial on the axis, from 0 (low end) to 1 (high end); NaN if the setting is inactive.
        options: the values of a choice, in the order of their positions; empty for numbers.
        ends: the values at both ends as text, for numbers.
    """

    name: str
    positions: np.ndarray
    options: tuple[str, ...]
    ends: tuple[str, str]


def importance(axes: list[Axis], scores: np.ndarray) -> tuple[list[tuple[str, float]], str]:
    """Returns the settings by falling importance, each in [0, 1], and the method: `forest` or `ranks`.

    Of at least `MIN_TRIALS_FOR_FOREST` trials: by how much a random forest's error grows when one setting is permuted (Breiman
    2001), as shares. Of fewer: Spearman's rank correlation with the score without its sign; for a choice the
    correlation ratio of the ranks, corrected for the number of options; settings that count in fewer than `MIN_TRIALS_FOR_CORRELATION` trials are left out.

    Args:
        scores: float [N].
    """
    if len(scores) >= MIN_TRIALS_FOR_FOREST:
        found = _permutation_importance(axes, scores)
        method = "forest"
    else:
        axes = [axis for axis in axes if np.isfinite(axis.positions).sum() >= MIN_TRIALS_FOR_CORRELATION]
        found = [_rank_correlation(axis, scores) for axis in axes]
        method = "ranks"
    return sorted(zip((axis.name for axis in axes), found), key=lambda pair: -pair[1]), method


def _permutation_importance(axes: list[Axis], scores: np.ndarray) -> list[float]:
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.nan_to_num(np.stack([axis.positions for axis in axes], 1), nan=-1.0)
    # Ranks, so that one diverged trial does not dominate the importance.
    ranks = rankdata(scores)
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(inputs, ranks)
    gains = permutation_importance(forest, inputs, ranks, n_repeats=PERMUTATIONS, random_state=0).importances_mean
    gains = np.maximum(gains, 0.0)
    return (gains / max(gains.sum(), 1e-12)).tolist()


def _rank_correlation(axis: Axis, scores: np.ndarray) -> float:
    from scipy.stats import rankdata

    counts = np.isfinite(axis.positions)
    positions, ranks = axis.positions[counts], rankdata(scores[counts])
    if len(np.unique(positions)) < 2 or len(np.unique(ranks)) < 2:
        return 0.0
    if not axis.options:
        return float(abs(np.corrcoef(rankdata(positions), ranks)[0, 1]))
    means = np.array([ranks[positions == position].mean() for position in positions])
    trials, options = len(ranks), len(np.unique(positions))
    if options == trials:
        return 0.0
    # Corrected as R² is for its number of parameters (epsilon squared, Kelley 1935): else many options look important by chance.
    unexplained = (1 - means.var() / ranks.var()) * (trials - 1) / (trials - options)
    return float(np.sqrt(max(0.0, 1 - unexplained)))
