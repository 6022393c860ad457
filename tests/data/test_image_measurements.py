"""The measures of an image against their formulas."""

import numpy as np
from PIL import Image, ImageFilter
from textures import texture

from kerasft.data import image_measurements


def measured(images: np.ndarray) -> image_measurements.Measures:
    found = image_measurements.make_empty(len(images))
    image_measurements.measure(images, found, list(range(len(images))))
    return found


def test_brightness_contrast_and_edges_are_those_of_cleanvision():
    images = np.stack([np.asarray(texture(seed, 64, 64)) for seed in range(3)])
    found = measured(images)
    for row, image in enumerate(images):
        red, green, blue = np.moveaxis(image.astype(float), -1, 0)
        bright = np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255
        expected = np.percentile(bright, 5), bright.mean(), np.percentile(bright, 99)
        np.testing.assert_allclose(found.brightness[row], expected, atol=0.01)
        grey = Image.fromarray(image).convert("L")
        np.testing.assert_allclose(found.contrast[row], np.asarray(grey).std(), rtol=0.01)
        edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES), float)[1:-1, 1:-1]
        np.testing.assert_allclose(found.edges[row], edges.var(), rtol=0.05)


def test_blocks_are_means():
    image = np.asarray(texture(0, 140, 140))[np.newaxis]
    found = image_measurements.average_blocks(image)
    assert found.shape == (1, 70, 70, 3)
    np.testing.assert_allclose(found[0, 3, 5], image[0, 6:8, 10:12].mean((0, 1)), rtol=1e-6)
    large = np.full((1, 64 * 20, 64 * 20, 3), 255, np.uint8)
    assert (image_measurements.average_blocks(large) == 255).all()


def test_a_part_is_described_as_its_crop_is():
    """The descriptor of the centred part is that of the image cropped to it."""
    image = np.asarray(texture(0, 400, 400))
    region = image_measurements.REGIONS.index(image_measurements.Region(0.84, 0.84))
    crop = image[32:-32, 32:-32]
    part = measured(image[np.newaxis]).descriptors[0, region].astype(float)
    whole = measured(np.asarray(Image.fromarray(crop).resize((400, 400)))[np.newaxis]).descriptors[0, 0].astype(float)
    assert part @ whole > 0.99
    assert abs(np.linalg.norm(part) - 1) < 1e-2


def test_an_image_without_contrast_has_no_descriptor():
    found = measured(np.full((1, 32, 32, 3), 200, np.uint8))
    assert not found.descriptors.any()
    assert found.contrast[0] < 1e-3
