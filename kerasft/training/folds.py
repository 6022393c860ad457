"""The parts of the training examples that are held out in turn, to choose the penalty of the probe."""

import warnings

import numpy as np

# Parts of the training examples that are held out in turn.
FOLDS = 5

# Of more examples, this many and one held-out fifth of them are enough to choose the penalty.
MAX_CV_EXAMPLES = 5_000


def plain(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows, drawn without regard to the labels."""
    from sklearn.model_selection import KFold

    if count < 2:
        return []
    rows = np.arange(count)
    if count > MAX_CV_EXAMPLES:
        rows = np.sort(np.random.default_rng(seed).permutation(count)[:MAX_CV_EXAMPLES])
    folds = KFold(min(FOLDS, count), shuffle=True, random_state=seed).split(rows)
    return [(rows[fitted], rows[held]) for fitted, held in folds][: 1 if count > MAX_CV_EXAMPLES else None]


def stratified(labels: np.ndarray, rows: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (fitted, held) of rows; the only example of a class is always fitted, so that every model knows all classes.

    A class of fewer examples than folds is held out in as many of them as it has examples.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels[rows])
    several = rows[counts[labels[rows]] > 1]
    if not len(several):
        return []
    folds = StratifiedKFold(min(FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [(np.setdiff1d(rows, several[held]), several[held]) for _, held in folds.split(several, labels[several])]


def sample(labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows to choose the penalty on: all, or `MAX_CV_EXAMPLES` with the classes in proportion and two of each at least."""
    if len(labels) <= MAX_CV_EXAMPLES:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = np.bincount(labels)
    wanted = np.minimum(sizes, np.maximum(2, np.round(sizes * MAX_CV_EXAMPLES / len(labels)))).astype(int)
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label, count in enumerate(wanted)]))
