"""Deletion and insertion: areas that can be computed by hand, paired intervals, and what counts."""

import numpy as np
import pytest
from scipy import stats

from kerasft.evaluation import faithfulness
from kerasft.evaluation.faithfulness import Areas

SIZE = 16


def _image() -> np.ndarray:
    """Black, but for a white upper half."""
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[: SIZE // 2] = 255
    return image


def _brightness(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean of the upper half in [0, 1]."""
    return images[:, : SIZE // 2].mean((1, 2, 3)) / 255


def test_the_areas_are_those_under_the_curves():
    upper = np.concatenate([np.ones((4, 8)), np.zeros((4, 8))])
    maps = np.stack([upper, 1 - upper])[np.newaxis]
    found = faithfulness.areas(_brightness, _image()[np.newaxis], maps, steps=4)
    # A quarter of the pixels is half of the upper half; what is deleted gets the mean colour, one half.
    np.testing.assert_allclose(found.deletion[0, 0], np.trapezoid([1, 0.75, 0.5, 0.5, 0.5], dx=0.25), atol=0.02)
    np.testing.assert_allclose(found.deletion[0, 1], np.trapezoid([1, 1, 1, 0.75, 0.5], dx=0.25), atol=0.02)
    start = _brightness(faithfulness.blur(_image())[np.newaxis], np.zeros(1))[0]
    assert 0.8 < start < 1
    np.testing.assert_allclose(
        found.insertion[0, 1], np.trapezoid([start, start, start, (1 + start) / 2, 1], dx=0.25), atol=0.02
    )
    assert found.insertion[0, 0] > found.insertion[0, 1]


def test_every_pixel_is_taken_once_and_batches_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    maps = rng.random((3, 2, 4, 4))
    seen = []

    def score(variants, rows):
        seen.append(len(variants))
        return np.abs(variants - images[rows]).mean((1, 2, 3))

    whole = faithfulness.areas(score, images, maps)
    assert sum(seen) == 3 * (4 + 2 * 2 * (faithfulness.STEPS - 1))
    monkeypatch.setattr(faithfulness, "BATCH_SIZE", 7)
    for one, other in zip(whole, faithfulness.areas(score, images, maps)):
        np.testing.assert_array_equal(one, other)


def test_a_map_of_zeros_is_drawn_and_not_read_from_the_top():
    zeros = np.zeros((1, 1, 4, 4))
    found = faithfulness.areas(_brightness, _image()[np.newaxis], zeros, steps=4)
    top = faithfulness.areas(_brightness, _image()[np.newaxis], np.arange(16.0, 0, -1).reshape(1, 1, 4, 4), steps=4)
    assert found.deletion[0, 0] > top.deletion[0, 0] + 0.02


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(1)
    first, second = rng.random(20), rng.random(20) + 0.2
    found = faithfulness.difference(first, second)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high))
    assert found.value == pytest.approx(found.maps - found.others)
    one = faithfulness.difference(first[:1], second[:1])
    assert np.isnan(one.low) and np.isnan(one.high)


@pytest.mark.parametrize(
    ("deletion", "insertion", "verdict"),
    [
        (-0.2, 0.2, "better"),
        (-0.2, 0.0, "partly"),
        (0.0, 0.2, "partly"),
        (0.2, -0.2, "no_better"),
        (-0.01, 0.01, "no_better"),
    ],
)
def test_both_measures_must_say_so_and_by_enough(deletion, insertion, verdict):
    noise = np.random.default_rng(2).normal(0, 0.002, 24)
    others = Areas(np.full(24, 0.5), np.full(24, 0.5))
    found = faithfulness.compare(Areas(0.5 + deletion + noise, 0.5 + insertion + noise), others)
    assert found.verdict == verdict


def test_random_maps_are_smooth_and_the_same_again():
    maps = faithfulness.random_maps(3, 7)
    np.testing.assert_array_equal(maps, faithfulness.random_maps(3, 7))
    assert maps.shape == (3, faithfulness.RANDOM_MAPS, 7, 7)
    large = faithfulness.enlarge(maps[0, 0], 224)
    assert large.shape == (224, 224) and np.abs(np.diff(large, axis=0)).max() < 0.1
