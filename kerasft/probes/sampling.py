"""The training images on which a choice is made: all of them, or a sample with images of every class."""

import hashlib
from dataclasses import replace

import numpy as np

from kerasft.data.splits import Split

# So many images of each class at least, where there are as many.
MIN_IMAGES_PER_CLASS = 4
# On fewer images nothing is measured.
MIN_IMAGES = 30


def sample(labels: np.ndarray, classes: int, task: str, seed: int, count: int) -> np.ndarray:
    """Returns rows in ascending order: all, or a random sample that has images of every class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rows = [order[:count]]
    for label in range(classes if task != "regression" else 0):
        has = labels[order] == label if task == "single_label" else labels[order, label] > 0
        rows.append(order[has][:MIN_IMAGES_PER_CLASS])
    return np.unique(np.concatenate(rows))


def part(split: Split, rows: np.ndarray, framing: str) -> Split:
    """Returns some rows of a split under a framing. Images that are stored are those of the split's own framing."""
    stored = split.images if framing == split.framing else None
    if len(rows) == len(split):
        return replace(split, images=stored, framing=framing)
    return Split(
        ids=split.ids[rows],
        labels=split.labels[rows],
        read=lambda index: split.read(int(rows[index])),
        images=stored and (lambda indices: stored(rows[indices])),
        digest=hashlib.sha256(repr((split.digest, rows.tolist())).encode()).hexdigest(),
        framing=framing,
        groups=None if split.groups is None else split.groups[rows],
    )
