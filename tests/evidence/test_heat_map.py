"""A map over its image: bright where it is high, grey where it is 0."""

import numpy as np

from kerasft.evidence.heat_map import overlay


def test_the_highest_place_is_brightest_and_the_rest_stays_grey():
    pixels = np.full((32, 32, 3), (10, 60, 120), np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 5
    drawn = overlay(pixels, values)
    assert drawn.shape == pixels.shape and drawn.dtype == np.uint8
    row, column = np.unravel_index(drawn.sum(-1).argmax(), (32, 32))
    assert 8 <= row < 16 and 16 <= column < 24
    np.testing.assert_array_equal(drawn[-1, 0], np.round(10 * 0.299 + 60 * 0.587 + 120 * 0.114))
    np.testing.assert_array_equal(overlay(pixels, 3 * values), drawn)


def test_a_map_of_zeros_leaves_a_grey_image():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    drawn = overlay(pixels, np.zeros((2, 2)))
    assert (drawn == drawn[..., :1]).all()
