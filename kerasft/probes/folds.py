"""The parts of the training examples that are held out in turn, to choose the penalty of the probe.

Images of one group are held out together, as they stand on one side of a split: else a probe would be judged by what it has seen.
"""

import warnings

import numpy as np

# Parts of the training examples that are held out in turn.
FOLDS = 5

# Of more examples, this many and one held-out fifth of them are enough to choose the penalty.
MAX_CV_EXAMPLES = 5_000

# Why there may be no fold, in half a sentence.
NO_FOLDS = "no training image can be held out: each is the only one of a class, or in the only group"


def plain(count: int, seed: int, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows, drawn without regard to the labels; none of fewer than two examples or groups.

    Args:
        count: of the examples.
        seed: of the draw.
        groups: int [count], or None. No group is on both sides of a pair.
    """
    rows = np.arange(count)
    if count > MAX_CV_EXAMPLES:
        rows = np.sort(np.random.default_rng(seed).permutation(count)[:MAX_CV_EXAMPLES])
    pairs = [(rows[fitted], rows[held]) for fitted, held in _draw(rows, seed, groups)]
    return pairs[: 1 if count > MAX_CV_EXAMPLES else None]


def _draw(rows: np.ndarray, seed: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of places in `rows`."""
    from sklearn.model_selection import GroupKFold, KFold

    groups = None if groups is None else groups[rows]
    parts = min(FOLDS, len(rows) if groups is None else len(np.unique(groups)))
    if parts < 2:
        return []
    kind = KFold if groups is None else GroupKFold
    return list(kind(parts, shuffle=True, random_state=seed).split(rows, groups=groups))


def multi_label(labels: np.ndarray, seed: int, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows; every model knows all labels.

    Where the fitted rows of a fold would all have a label, or all lack it, held ones (with groups: groups) are fitted instead. So
    the only positive of a label is fitted in every fold.

    Args:
        labels: float [N, C] of 0 and 1; each column has both.
        seed: of the draw.
        groups: int [N], or None. No group is on both sides of a pair.
    """
    positive = labels > 0.5
    rows = _sample_of_labels(positive, seed)
    positive = positive[rows]
    _, unit = np.unique(rows if groups is None else groups[rows], return_inverse=True)
    pairs = []
    for _, held in _draw(rows, seed, groups):
        is_held = np.isin(np.arange(len(rows)), held)
        others = positive[~is_held]
        # Only what the fitted rows lack can be lost.
        has = np.concatenate([positive[:, ~others.any(0)], ~positive[:, others.all(0)]], 1)
        if has.shape[1]:
            known = np.zeros((unit.max() + 1, has.shape[1]), bool)
            np.logical_or.at(known, unit, has)
            is_held = np.isin(unit, _removable_groups(known, np.bincount(unit), np.unique(unit[held])))
        if is_held.any():
            pairs.append((rows[~is_held], rows[is_held]))
    return pairs[: 1 if len(labels) > MAX_CV_EXAMPLES else None]


def _sample_of_labels(positive: np.ndarray, seed: int) -> np.ndarray:
    """Rows to choose the penalty on: all, or `MAX_CV_EXAMPLES` and more, until two have each label and two lack it."""
    if len(positive) <= MAX_CV_EXAMPLES:
        return np.arange(len(positive))
    order = np.random.default_rng(seed).permutation(len(positive))
    taken = np.zeros(len(positive), bool)
    taken[order[:MAX_CV_EXAMPLES]] = True
    for has in (*positive.T, *~positive.T):
        if (has & taken).sum() < 2:
            taken[order[has[order]][:2]] = True
    return np.flatnonzero(taken)


def stratified(
    labels: np.ndarray, rows: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows; the only example of a class is always fitted, so that every model knows all classes.

    A class of fewer examples than folds is held out in as many of them as it has examples. With groups, the only group of a
    class is always fitted.

    Args:
        labels: int [N].
        rows: the examples that take part, int [n].
        seed: of the draw.
        groups: int [N], or None. No group is on both sides of a pair.
    """
    from sklearn.model_selection import StratifiedKFold

    if groups is not None:
        return _stratified_groups(labels, rows, seed, groups)
    counts = np.bincount(labels[rows])
    several = rows[counts[labels[rows]] > 1]
    if not len(several):
        return []
    folds = StratifiedKFold(min(FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [(np.setdiff1d(rows, several[held]), several[held]) for _, held in folds.split(several, labels[several])]


def _stratified_groups(
    labels: np.ndarray, rows: np.ndarray, seed: int, groups: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`stratified` with groups. What a fold must give back for its model to know all classes is fitted."""
    from sklearn.model_selection import StratifiedGroupKFold

    units, unit = np.unique(groups[rows], return_inverse=True)
    counts = np.zeros((len(units), labels.max(initial=0) + 1), int)
    np.add.at(counts, (unit, labels[rows]), 1)
    parts = min(FOLDS, len(units), int(counts.sum(0).max()))
    if parts < 2:
        return []
    folds, pairs = StratifiedGroupKFold(parts, shuffle=True, random_state=seed), []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        drawn = [held for _, held in folds.split(rows, labels[rows], unit)]
    for held in drawn:
        is_held = np.isin(unit, _removable_groups(counts > 0, counts.sum(1), np.unique(unit[held])))
        if is_held.any():
            pairs.append((rows[~is_held], rows[is_held]))
    return pairs


def _removable_groups(has: np.ndarray, sizes: np.ndarray, held: np.ndarray) -> list[int]:
    """The groups of a fold without which the other groups still have all classes: the smallest ones are given back first.

    Args:
        has: bool [groups, C], whether a group has a class.
        sizes: int [groups], examples of each.
        held: int [n], the groups of the fold.
    """
    left, spared = has.sum(0) - has[held].sum(0), []
    for one in held[np.argsort(sizes[held], kind="stable")]:
        if (left[has[one]] == 0).any():
            left = left + has[one]
        else:
            spared.append(int(one))
    return spared


def partition(count: int, seed: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Rows 0..count-1 in parts that hold each of them once; a class or label may be in one of them only.

    Args:
        count: of the examples.
        seed: of the draw.
        groups: int [count], or None. No group is in two parts.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return np.array_split(rng.permutation(count), FOLDS)
    units, unit = np.unique(groups, return_inverse=True)
    parts = np.array_split(rng.permutation(len(units)), min(FOLDS, len(units)))
    return [np.flatnonzero(np.isin(unit, part)) for part in parts]


def sample(labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows to choose the penalty on: all, or `MAX_CV_EXAMPLES` with the classes in proportion and two of each at least."""
    if len(labels) <= MAX_CV_EXAMPLES:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = np.bincount(labels)
    wanted = np.minimum(sizes, np.maximum(2, np.round(sizes * MAX_CV_EXAMPLES / len(labels)))).astype(int)
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label, count in enumerate(wanted)]))
