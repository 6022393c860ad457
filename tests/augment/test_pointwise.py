"""Pointwise operations against Pillow's, alone and one after the other, and their tables against counts of pixels."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image
from PIL import Image, ImageOps

from kerasft import augment
from kerasft.augment import lookup_tables, pixels
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

SIDE = 40


def _photos() -> np.ndarray:
    rng = np.random.default_rng(5)
    made = [np.asarray(make_image("disc", rng, SIDE, SIDE)) for _ in range(3)]
    made.append(rng.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8))
    made.append(np.uint8(rng.integers(0, 2, (SIDE, SIDE, 3)) * [1, 200, 90] + [7, 0, 100]))  # two values a channel
    made.append(np.full((SIDE, SIDE, 3), (0, 77, 255), np.uint8))  # one value a channel
    made.append(np.uint8(rng.exponential(12, (SIDE, SIDE, 3)).clip(0, 255)))
    return np.stack(made)


def _run(text: str, images: np.ndarray, *draws: float) -> np.ndarray:
    layer = augment.build(specs.parse(text, "--augment"))
    rows = np.tile(np.array(draws, np.float32), (len(images), 1))
    return layer(images, rows).numpy()


def _pillow(images: np.ndarray, *operations) -> np.ndarray:
    made = [Image.fromarray(image) for image in images]
    for operation in operations:
        made = [operation(image) for image in made]
    return np.stack([np.asarray(image, np.float32) for image in made])


@pytest.mark.parametrize(
    ("text", "draw", "operation"),
    [
        *(
            (f"posterize({bits})", 0.0, lambda image, bits=bits: ImageOps.posterize(image, bits))
            for bits in range(1, 9)
        ),
        ("posterize(3)", 0.55, lambda image: ImageOps.posterize(image, 6)),
        *((f"solarize({t})", 0.0, lambda image, t=t: ImageOps.solarize(image, t)) for t in (0, 1, 100, 128, 255, 256)),
        ("solarize(56)", 0.5, lambda image: ImageOps.solarize(image, 156)),
        ("invert", 0.4, ImageOps.invert),
        ("invert", 0.6, lambda image: image),
        ("equalize", 0.4, ImageOps.equalize),
        ("equalize", 0.6, lambda image: image),
    ],
)
def test_operations_are_pillows(text, draw, operation):
    images = _photos()
    np.testing.assert_array_equal(_run(text, images, draw), _pillow(images, operation))


def test_autocontrast_is_pillows_but_for_its_rounding():
    images = _photos()
    found, expected = _run("autocontrast", images, 0.4), _pillow(images, ImageOps.autocontrast)
    assert np.abs(found - expected).max() <= 1  # Pillow's doubles fall just short of some whole numbers
    assert (found == expected).mean() > 0.9
    np.testing.assert_array_equal(_run("autocontrast", images, 0.6), images)


@pytest.mark.parametrize(("draw", "exponent"), [(0.0, 1 / 1.5), (0.5, 1.0), (1.0, 1.5)])
def test_gamma_is_its_formula(draw, exponent):
    images = _photos()
    np.testing.assert_array_equal(_run("gamma(0.5)", images, draw), np.round(255 * (images / 255) ** exponent))


def test_several_tables_are_pillows_one_after_the_other():
    """The second histogram is that of the pixels as the first operations left them, without counting them again."""
    images = _photos()
    found = _run("posterize(3) | equalize(1) | solarize(100) | autocontrast(1)", images, 0.0, 0.0, 0.0, 0.0)
    expected = _pillow(
        images,
        lambda image: ImageOps.posterize(image, 3),
        ImageOps.equalize,
        lambda image: ImageOps.solarize(image, 100),
        ImageOps.autocontrast,
    )
    assert np.abs(found - expected).max() <= 1


def test_tables_come_after_geometry_and_before_colour_matrices():
    images = _photos()
    found = _run("saturation(0.8) | posterize(2) | flip", images, 0.1, 0.0, 0.2, 0.9)
    stepwise = _run("saturation(0.8)", _run("posterize(2)", _run("flip", images, 0.2, 0.9), 0.0), 0.1)
    np.testing.assert_allclose(found, stepwise, atol=1e-2)


def test_histograms_count_the_pixels_of_those_that_want_them():
    images = _photos()
    wanted = np.arange(len(images)) % 2 == 0
    found = pixels.histograms(tf.cast(images, tf.float32) + 0.3, wanted).numpy()
    for image, counts, want in zip(images, found, wanted):
        expected = [np.bincount(image[..., c].ravel(), minlength=256) * want for c in range(3)]
        np.testing.assert_array_equal(counts, expected)


def test_a_histogram_goes_through_a_table():
    images = _photos()
    every = np.ones(len(images), bool)
    lookup = tf.constant(np.random.default_rng(0).integers(0, 256, (len(images), 3, 256)), tf.int32)
    expected = pixels.histograms(pixels.lookup(images, lookup), every)
    np.testing.assert_array_equal(lookup_tables.map_histogram(pixels.histograms(images, every), lookup), expected)


def test_quotients_are_exact():
    rng = np.random.default_rng(0)
    b = rng.integers(1, 2**22 // 255, 200_000).astype(np.int32)
    k = rng.integers(0, 257, 200_000)
    a = np.int32(np.maximum(k * b - rng.integers(0, 2, 200_000), 0))
    np.testing.assert_array_equal(lookup_tables._floor_divide(tf.constant(a), tf.constant(b)), a // b)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("posterize(0)", r"bits must be a whole number in \[1, 8\]. Received: 'posterize\(0\)'"),
        ("posterize(2.5)", "bits must be a whole number"),
        ("solarize(300)", r"threshold must be a whole number in \[0, 256\]"),
        ("equalize(2)", r"probability must be a number in \[0, 1\]"),
        ("gamma(-1)", "amount must be a number"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        augment.build(specs.parse(text, "--augment"))
