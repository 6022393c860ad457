"""Framing: each way to make an image square, against a reference in NumPy, for any proportions."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasft.data import decode
from kerasft.data.framing import FRAMINGS, PADDING
from kerasft.settings.config import FIELDS

SIZE = 32
SHAPES = [(60, 48), (48, 60), (600, 3), (3, 600), (8, 8), (500, 375), (61, 37), (90, 64), (70, 20), (1, 64)]


def _image(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    return np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height)))


def _weights(before, after):
    """What share of each old pixel each new one holds, [after, before]."""
    if before > 2 * after:
        edges = np.arange(after + 1) * before / after
        covered = np.minimum(edges[1:, None], np.arange(1, before + 1)) - np.maximum(
            edges[:-1, None], np.arange(before)
        )
        return np.maximum(covered, 0) * after / before
    middles = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(middles[:, None] - np.arange(before)))


def _resized(image, height, width):
    rows, columns = _weights(image.shape[0], height), _weights(image.shape[1], width)
    return np.einsum("ay,bx,yxc->abc", rows, columns, image.astype(float), optimize=True)


def _cropped(image):
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return _resized(image[top : top + side, left : left + side], SIZE, SIZE)


def _padded(image):
    height, width = (max(1, int(SIZE * side / max(image.shape[:2]) + 0.5)) for side in image.shape[:2])
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    square = np.full((SIZE, SIZE, 3), float(PADDING))
    square[top : top + height, left : left + width] = _resized(image, height, width)
    return square


REFERENCES = {"crop": _cropped, "pad": _padded, "squash": lambda image: _resized(image, SIZE, SIZE)}


def _png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_axis_is_resized_by_area_or_bilinearly(framing, shape):
    image = _image(*shape)
    found = decode.decode(tf.constant(_png(image)), SIZE, framing).numpy().astype(int)
    assert np.abs(found - REFERENCES[framing](image)).max() <= 1


@pytest.mark.parametrize("framing", ["pad", "squash"])
def test_stripes_that_are_too_fine_become_grey_on_either_axis(framing):
    stripes = np.zeros((40, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    for image in (stripes, stripes.transpose(1, 0, 2)):
        found = decode.decode(tf.constant(_png(image)), SIZE, framing).numpy()
        assert found.min() > 100
        assert found.max() < 140


def test_a_square_looks_the_same_under_every_framing():
    contents = tf.constant(_png(_image(50, 50)))
    found = [decode.decode(contents, SIZE, framing).numpy() for framing in FRAMINGS]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(("framing", "sees"), [("crop", False), ("pad", True), ("squash", True)])
def test_only_crop_loses_what_stands_at_the_edge(framing, sees):
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, :20] = 255
    found = decode.decode(tf.constant(_png(image)), SIZE, framing).numpy()
    assert (found.max() > 200) == sees


def test_the_flag_names_every_framing():
    assert set(FIELDS["framing"].metadata["choices"]) == {"auto", *FRAMINGS}
