"""How much each searched setting matters for the score, estimated from the trials."""

from typing import NamedTuple

import numpy as np

ENOUGH = 25  # trials for a random forest; ranks say more about fewer
LEAST = 6  # in which a setting counts, for its rank correlation to be more than chance
REPEATS = 20  # permutations of each setting


class Axis(NamedTuple):
    """One searched setting over the trials.

    Attributes:
        name: as `--search` names it.
        places: float [N], where each trial lies, 0 at the low end and 1 at the high one; NaN where it does not count.
        options: the values of a choice in the order of their places; empty for numbers.
        ends: text of the values at both ends, for numbers.
    """

    name: str
    places: np.ndarray
    options: tuple[str, ...]
    ends: tuple[str, str]


def importance(axes: list[Axis], scores: np.ndarray) -> tuple[list[tuple[str, float]], str]:
    """The settings by falling importance, each in [0, 1], and which method it was: `forest` or `ranks`.

    Of at least `ENOUGH` trials: by how much a random forest's error grows when one setting is permuted (Breiman
    2001), as shares. Of fewer: Spearman's rank correlation with the score without its sign; for a choice the
    correlation ratio of the ranks; settings that count in fewer than `LEAST` trials are left out.

    Args:
        scores: float [N].
    """
    if len(scores) >= ENOUGH:
        found = _forest(axes, scores)
        method = "forest"
    else:
        axes = [axis for axis in axes if np.isfinite(axis.places).sum() >= LEAST]
        found = [_ranked(axis, scores) for axis in axes]
        method = "ranks"
    return sorted(zip((axis.name for axis in axes), found), key=lambda pair: -pair[1]), method


def _forest(axes: list[Axis], scores: np.ndarray) -> list[float]:
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.nan_to_num(np.stack([axis.places for axis in axes], 1), nan=-1.0)
    ranks = rankdata(scores)  # one trial that has gone astray shall not be all that is explained
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(inputs, ranks)
    gains = permutation_importance(forest, inputs, ranks, n_repeats=REPEATS, random_state=0).importances_mean
    gains = np.maximum(gains, 0.0)
    return (gains / max(gains.sum(), 1e-12)).tolist()


def _ranked(axis: Axis, scores: np.ndarray) -> float:
    from scipy.stats import rankdata

    counts = np.isfinite(axis.places)
    places, ranks = axis.places[counts], rankdata(scores[counts])
    if len(np.unique(places)) < 2 or len(np.unique(ranks)) < 2:
        return 0.0
    if not axis.options:
        return float(abs(np.corrcoef(rankdata(places), ranks)[0, 1]))
    means = np.array([ranks[places == place].mean() for place in places])
    return float(means.std() / ranks.std())
