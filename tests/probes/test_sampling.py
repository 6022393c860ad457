"""The sample of training images on which a choice is made."""

import numpy as np

from kerasft.data.splits import Split
from kerasft.probes import sampling


def test_the_sample_holds_every_class_and_is_all_of_a_small_split():
    labels = np.repeat(np.arange(4, dtype=np.int32), [400, 90, 7, 2])
    rows = sampling.sample(labels, 4, "single_label", 0, 50)
    assert 50 <= len(rows) <= 60
    assert (np.bincount(labels[rows]) >= [30, 4, 4, 2]).all()
    several = sampling.sample(np.float32(labels[:, None] == np.arange(4)), 4, "multi_label", 0, 50)
    np.testing.assert_array_equal(several, rows)
    assert len(sampling.sample(np.zeros((99, 3), np.float32), 3, "regression", 0, 50)) == 50
    np.testing.assert_array_equal(sampling.sample(labels[:50], 4, "single_label", 0, 50), np.arange(50))


def test_only_stored_images_of_the_same_framing_are_used():
    read = [bytes([index]) for index in range(6)]
    split = Split(np.arange(6).astype(str), np.arange(6), read.__getitem__, lambda rows: rows, digest="d")
    rows = np.array([1, 4])
    kept = sampling.part(split, rows, "crop")
    np.testing.assert_array_equal(kept.images(np.array([1, 0])), [4, 1])
    other = sampling.part(split, rows, "pad")
    assert other.images is None
    assert other.framing == "pad"
    assert other.read(1) == read[4]
    whole = sampling.part(split, np.arange(6), "pad")
    assert (whole.digest, whole.images) == (split.digest, None)
