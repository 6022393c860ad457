"""Stratified samples: which examples go to a split, so that every class has its fraction in it."""

import hashlib

import numpy as np

from kerasft.data import groups
from kerasft.data.listing import Listing

# Units are gone through at most so many times; a few are enough.
_PASSES = 5


def sample_fraction(listing: Listing, rows: np.ndarray, fraction: float, seed: int, name: str) -> np.ndarray:
    """Returns bool [len(rows)]: a stratified fraction of the rows, at least one unit and not all of each stratum.

    A unit is an image with its copies, its near duplicates, and its group.
    """
    unit = groups.connect(listing, rows)
    ranks = rank(seed, name, _least_digests(unit, listing.digests[rows]))
    # The fraction is one of images: a unit of several counts as so many.
    if listing.groups is not None:
        sample = _sample_groups
    else:
        sample = _sample_bursts if len(ranks) < len(rows) else _sample_images
    labels = _labels_of_units(listing, rows, unit)
    if labels is None:
        strata = make_strata(listing, rows)
        sizes = np.zeros((len(ranks), strata.shape[1]), int)
        np.add.at(sizes, unit, strata)
        return sample(sizes, ranks, fraction)[unit]
    # Class by class it is the same sample. A table of all units and classes would take gigabytes of memory.
    chosen, sizes = np.zeros(len(ranks), bool), np.bincount(unit)
    order = np.argsort(labels, kind="stable")
    for units in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        chosen[units] = sample(sizes[units, np.newaxis], ranks[units], fraction)
    return chosen[unit]


def _labels_of_units(listing: Listing, rows: np.ndarray, unit: np.ndarray) -> np.ndarray | None:
    """Returns the label of each unit, int [U]; None but for single labels, and where a unit has several."""
    if listing.task != "single_label" or not len(rows):
        return None
    labels = np.zeros(unit.max() + 1, int)
    labels[unit] = listing.labels[rows]
    return labels if (labels[unit] == listing.labels[rows]).all() else None


def _sample_images(sizes: np.ndarray, ranks: np.ndarray, fraction: float) -> np.ndarray:
    """Samples units of one image each, bool [U], at least one and not all of each stratum. Sizes and ranks as in `sample_units`."""
    members = sizes > 0
    counts = members.sum(0)
    wanted = np.minimum(np.maximum(1, np.round(counts * fraction)), counts - 1)
    return sample_strata(members, ranks, wanted, counts - 1)


def _sample_groups(sizes: np.ndarray, ranks: np.ndarray, fraction: float) -> np.ndarray:
    """Samples units, bool [U], with a fraction of the examples of each stratum."""
    return sample_units(sizes, ranks, sizes.sum(0) * fraction)


def _sample_bursts(sizes: np.ndarray, ranks: np.ndarray, fraction: float) -> np.ndarray:
    """Samples units, bool [U]; those that alone exceed the fraction of a stratum come last, the smallest first.

    A burst of hundreds of near duplicates would else take most of a class out of training. Nor does the fraction count it:
    it would take all other images.
    """
    is_large = (sizes > np.maximum(1, np.round(sizes.sum(0) * fraction))).any(1)
    ranks = np.where(is_large, [f"~{size:09}" for size in sizes.sum(1)], ranks)
    return sample_units(sizes, ranks, sizes[~is_large].sum(0) * fraction)


def sample_units(sizes: np.ndarray, ranks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Samples whole units of several examples, so that each stratum comes near what is wanted of it.

    In the order of their ranks, units are taken or put back where that brings the sample nearer to what is wanted: the sum
    over the strata of the squared distance, in shares of the stratum. A stratum of which nothing is taken then gets its
    smallest unit. The last unit of a stratum is never taken. (scikit-learn's StratifiedGroupKFold is greedy in a like way.)

    Args:
        sizes: int [U, strata], examples of each unit.
        ranks: str [U], hexadecimal.
        wanted: [strata], how many examples to sample of each stratum.

    Returns:
        bool [U].
    """
    totals, units = sizes.sum(0), (sizes > 0).sum(0)
    missing, left = wanted, units.copy()
    weights = 1 / np.maximum(totals, 1) ** 2
    chosen = np.zeros(len(sizes), bool)

    def toggle(unit: int) -> None:
        nonlocal missing, left
        sign = -1 if chosen[unit] else 1
        chosen[unit] = not chosen[unit]
        missing, left = missing - sign * sizes[unit], left - sign * (sizes[unit] > 0)

    def leaves_some(unit: int) -> bool:
        return bool((left[sizes[unit] > 0] > 1).all())

    order = np.argsort(ranks, kind="stable")
    for _ in range(_PASSES):
        before = chosen.copy()
        for unit in order:
            sign = -1 if chosen[unit] else 1
            gain = np.square(missing) - np.square(missing - sign * sizes[unit])
            if (gain * weights).sum() > 0 and (chosen[unit] or leaves_some(unit)):
                toggle(unit)
        if (chosen == before).all():
            break
    for stratum in np.flatnonzero((units > 1) & (totals > 0)):
        if (chosen & (sizes[:, stratum] > 0)).any():
            continue
        candidates = [unit for unit in order if sizes[unit, stratum] and leaves_some(unit)]
        if candidates:
            toggle(min(candidates, key=lambda unit: sizes[unit].sum()))
    return chosen


def make_strata(listing: Listing, rows: np.ndarray) -> np.ndarray:
    """Returns bool [len(rows), strata]: an example is in at least one."""
    labels = listing.labels[rows]
    if listing.task == "regression":
        bins = int(np.clip(len(rows) // 10, 1, 10))
        edges = np.quantile(labels[:, 0], np.arange(1, bins) / bins)
        return to_multi_hot(np.searchsorted(edges, labels[:, 0]), bins)
    positive = to_multi_hot(labels, len(listing.classes))
    # Examples without any class are a stratum of their own.
    return np.column_stack([positive, ~positive.any(1)])


def sample_strata(members: np.ndarray, ranks: np.ndarray, wanted: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Samples examples, those with the rarest stratum first, then by rank, while their rarest stratum wants more.

    Args:
        members: bool [N, strata].
        ranks: str [N].
        wanted: [strata], how many to sample for each stratum.
        limits: [strata], how many examples of a stratum to sample at most, for whatever stratum.

    Returns:
        bool [N].
    """
    if (members.sum(1) == 1).all():
        return _sample_distinct(members.argmax(1), ranks, np.minimum(wanted, limits))
    counts = members.sum(0)
    rarity = np.where(members, counts, len(members) + 1)
    rarest = rarity.argmin(1)
    taken, chosen = np.zeros(len(counts), int), np.zeros(len(members), bool)
    for row in np.lexsort((ranks, rarest, rarity.min(1))):
        if taken[rarest[row]] < wanted[rarest[row]] and (taken < limits)[members[row]].all():
            taken += members[row]
            chosen[row] = True
    return chosen


def _sample_distinct(stratum: np.ndarray, ranks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Samples examples that are in one stratum each, int [N], as `sample_strata` does."""
    order = np.lexsort((ranks, stratum))
    counts = np.bincount(stratum, minlength=len(wanted))
    places = np.arange(len(order)) - (np.cumsum(counts) - counts)[stratum[order]]
    chosen = np.zeros(len(order), bool)
    chosen[order] = places < wanted[stratum[order]]
    return chosen


def rank(seed: int, name: str, digests: np.ndarray) -> np.ndarray:
    """Returns the ranks of examples, str [N], by their digests: random by seed and name, and the same for equal bytes."""
    return np.array([hashlib.sha256(f"{seed}/{name}/{digest}".encode()).hexdigest() for digest in digests])


def to_multi_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns bool [N, C], which classes an example has, from labels of either form."""
    return labels > 0 if labels.ndim == 2 else labels[:, np.newaxis] == np.arange(classes)


def _least_digests(unit: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """Returns the least digest of each unit, str [U]: its rank must not depend on the order of the files."""
    least = np.full(unit.max(initial=-1) + 1, "g" * 64, dtype="<U64")
    for place, digest in zip(unit, digests):
        least[place] = min(least[place], digest)
    return least
