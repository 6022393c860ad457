"""Each operation against a plain reference, alone, composed, eager and inside tf.data."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from conftest import make_image
from PIL import Image, ImageEnhance

from kerasft import augment
from kerasft.augment import operations
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

SIDE = 48


def _photos(count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([np.asarray(make_image("disc", rng, SIDE, SIDE)) for _ in range(count)])


def _layer(text: str) -> augment.Augment:
    return augment.build(specs.parse(text, "--augment"))


def _run(text: str, images: np.ndarray, draws: list[float]) -> np.ndarray:
    layer = _layer(text)
    rows = np.tile(np.array(draws, np.float32), (len(images), 1))
    assert rows.shape[1] == layer.draws
    return layer(images, rows).numpy()


def _reference(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A plain resample: `matrix` maps output to input in units of half the image, around its centre."""
    middle, half = (SIDE - 1) / 2, SIDE / 2
    y, x = np.mgrid[:SIDE, :SIDE]
    points = np.stack([(x - middle) / half, (y - middle) / half, np.ones_like(x, float)]).reshape(3, -1)
    u, v, _ = matrix @ points
    places = [v * half + middle, u * half + middle]
    channels = [
        scipy.ndimage.map_coordinates(image[..., c].astype(float), places, order=1, mode="reflect") for c in range(3)
    ]
    return np.stack(channels, -1).reshape(SIDE, SIDE, 3)


def _turn(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


CASES = {
    "flip": ("flip", [0.2, 0.2], np.diag([-1, 1, 1])),
    "no flip": ("flip", [0.7, 0.2], np.eye(3)),
    "vertical flip": ("flip('vertical')", [0.2, 0.2], np.diag([1, -1, 1])),
    "both flips": ("flip('both')", [0.2, 0.2], np.diag([-1, -1, 1])),
    "rotate": ("rotate(40)", [0.9], _turn(32)),
    "zoom in": ("zoom(0.5)", [1.0], np.diag([1 / 1.5, 1 / 1.5, 1])),
    "zoom out": ("zoom(0.5)", [0.0], np.diag([2, 2, 1])),
    "translate": ("translate(0.25)", [1.0, 0.25], np.array([[1, 0, 0.5], [0, 1, -0.25], [0, 0, 1]])),
    "shear": ("shear(45)", [1.0, 0.5], np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])),
    "crop": (
        "crop(area=(0.25, 1), ratio=(1, 1))",
        [0.0, 0.5, 1.0, 0.0],
        np.array([[0.5, 0, 0.5], [0, 0.5, -0.5], [0, 0, 1]]),
    ),
    "composed": (
        "rotate(40) | translate(0.25)",
        [0.9, 1.0, 0.25],
        _turn(32) @ np.array([[1, 0, 0.5], [0, 1, -0.25], [0, 0, 1]]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_geometry_is_a_plain_resample(name):
    text, draws, matrix = CASES[name]
    images = _photos()
    found = _run(text, images, draws)
    for image, result in zip(images, found):
        expected = _reference(image, matrix)
        assert np.abs(result - expected).mean() < 0.1
        assert np.quantile(np.abs(result - expected), 0.99) < 1  # a few pixels on the mirror's edge


def test_mirroring_is_exact():
    images = _photos()
    np.testing.assert_allclose(_run("flip", images, [0.2, 0.9]), images[:, :, ::-1], atol=1e-3)


@pytest.mark.parametrize(
    ("text", "enhancer"),
    [
        ("brightness(0.5)", ImageEnhance.Brightness),
        ("contrast(0.5)", ImageEnhance.Contrast),
        ("saturation(0.5)", ImageEnhance.Color),
    ],
)
@pytest.mark.parametrize("u", [0.0, 0.3, 1.0])
def test_colours_are_pillows(text, enhancer, u):
    images = _photos()
    found = _run(text, images, [u])
    for image, result in zip(images, found):
        expected = np.asarray(enhancer(Image.fromarray(image)).enhance(0.5 + u), float)
        assert np.abs(result - expected).max() <= 1.6  # Pillow rounds the mean and every step


def test_color_is_its_three_parts_one_after_the_other():
    images = _photos() // 2 + 40  # away from the limits: we clip once, at the end
    step = _run("brightness(0.2)", images, [0.8])
    step = _run("contrast(0.2)", step, [0.1])
    step = _run("saturation(0.2)", step, [0.6])
    np.testing.assert_allclose(_run("color(0.2)", images, [0.8, 0.1, 0.6]), step, atol=1e-2)


def test_hue_turns_around_the_grey_axis():
    images = _photos() // 2 + 60
    found = _run("hue(0.5)", images, [5 / 6])  # a third of the circle: the channels change places
    np.testing.assert_allclose(found, images[..., [2, 0, 1]], atol=1e-2)
    np.testing.assert_allclose(_run("hue(0.5)", images, [0.5]), images, atol=1e-3)


def test_every_operation_keeps_shape_and_range():
    images = _photos()
    rng = np.random.default_rng(0)
    for name in operations.__all__:
        layer = _layer(name)
        found = layer(images, rng.random((len(images), layer.draws), np.float32)).numpy()
        assert found.shape == images.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert -0.5 <= found.min() <= found.max() <= 255.5
        assert np.abs(found - images).max() > 1 or name == "flip"


def test_eager_and_tf_data_agree_and_images_differ():
    text = "crop(area=(0.35, 1)) | flip | rotate(15) | shear(5) | color(0.2) | hue"
    layer, images = _layer(text), _photos(8)
    draws = np.random.default_rng(1).random((8, layer.draws), np.float32)
    eager = layer(images, draws).numpy()
    dataset = tf.data.Dataset.from_tensor_slices((images, draws)).batch(4).map(_layer(text))
    np.testing.assert_allclose(np.concatenate(list(dataset.as_numpy_iterator())), eager, atol=1e-2)
    alone = layer(images[3:4], draws[3:4]).numpy()
    np.testing.assert_allclose(alone[0], eager[3], atol=1e-2)
    assert (
        np.abs(layer(images[:1].repeat(2, 0), draws[:2]).numpy()[0] - layer(images[:1], draws[1:2]).numpy()[0]).max()
        > 1
    )


def test_keras_layers_may_follow_and_are_reported():
    layer = _layer("flip | RandomRotation(0.1)")
    assert not layer.stateless
    assert _layer("flip").stateless
    assert _layer("RandAugment(2, 9) | AugMix | AutoContrast").stateless
    assert layer(_photos(), np.zeros((3, layer.draws), np.float32)).shape == (3, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flipp", r"did you mean 'flip'"),
        ("rotate(200)", r"degrees must be a number in \[0, 180\]. Received: 'rotate\(200\)'"),
        ("crop(area=(1, 0.3))", "area must be a pair of rising numbers"),
        ("crop(area=0.3)", "area must be a pair"),
        ("crop(ratio=(0.75, 1e999))", "ratio must be a pair of rising numbers above 0. Received"),
        (f"erase(0.5, ratio=(1, 1{400 * '0'}))", "ratio must be a pair of rising numbers above 0. Received"),
        ("RandomFlip(mode='x')", "--augment: mode must be one of horizontal, .*Received"),
        ("flip('sideways')", "direction must be"),
        ("Dense(3)", "must be one of"),
        ("zoom(amount='much')", "amount must be a number"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _layer(text)
