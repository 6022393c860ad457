"""Stratified samples: class by class they are what they are over all classes at once, and take little memory."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from kerasft.data import stratification
from kerasft.data.listing import Listing


def _listing(rng, count: int, classes: int, near: str, grouped: bool) -> Listing:
    labels = rng.integers(0, classes, count).astype(np.int32)
    # Digests that occur twice are ranked alike.
    digests = np.array([hashlib.sha256(str(rng.integers(0, 2 * count)).encode()).hexdigest() for _ in range(count)])
    bursts = rng.integers(0, max(1, count // 3), count)
    found = {"alone": np.arange(count), "in a class": bursts + count * labels, "over classes": bursts}[near]
    _, first, places = np.unique(found, return_index=True, return_inverse=True)
    return Listing(
        name="made",
        task="single_label",
        ids=np.arange(count).astype(str),
        labels=labels,
        split_names=np.full(count, ""),
        classes=tuple(map(str, range(classes))),
        read=lambda index: b"",
        digests=digests,
        pixel_digests=np.arange(count).astype(str),
        groups=first[places].astype(str) if grouped else None,
        near_groups=first[places],
    )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("near", ["alone", "in a class", "over classes"])
def test_class_by_class_is_the_same_sample(near, grouped, monkeypatch):
    rng = np.random.default_rng(0)
    cases = [_listing(rng, int(rng.integers(1, 60)), int(rng.integers(1, 7)), near, grouped) for _ in range(20)]

    def samples():
        return [
            stratification.sample_fraction(listing, np.arange(len(listing.ids)), fraction, 3, "val").tolist()
            for listing in cases
            for fraction in (0.05, 0.2, 0.5, 0.8)
        ]

    by_class = samples()
    monkeypatch.setattr(stratification, "_labels_of_units", lambda *_: None)
    monkeypatch.setattr(stratification, "_sample_distinct", _one_after_the_other)
    assert samples() == by_class


def _one_after_the_other(stratum, ranks, wanted):
    taken, chosen = np.zeros(len(wanted), int), np.zeros(len(stratum), bool)
    for row in np.lexsort((ranks, stratum)):
        if taken[stratum[row]] < wanted[stratum[row]]:
            taken[stratum[row]] += 1
            chosen[row] = True
    return chosen


@pytest.mark.parametrize("grouped", [False, True])
def test_many_classes_take_little_memory(grouped):
    listing = _listing(np.random.default_rng(0), 3000, 1000, "alone", grouped)
    tracemalloc.start()
    try:
        chosen = stratification.sample_fraction(listing, np.arange(3000), 0.2, 0, "test")
        assert tracemalloc.get_traced_memory()[1] < 8 * 3000 * 1000
    finally:
        tracemalloc.stop()
    assert 0.2 < chosen.mean() < 0.4
