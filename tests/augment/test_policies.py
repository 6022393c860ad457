"""Policies: the ranges of the papers, how often each operation comes, and that all follows from the draws."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image
from PIL import Image, ImageEnhance, ImageOps

from kerasft import augment
from kerasft.augment import policies
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

SIDE = 40
EVERY = ("randaugment(2, 9)", "trivialaugment", "autoaugment('imagenet')", "augmix")


def _layer(text: str) -> augment.Augment:
    return augment.build(specs.parse(text, "--augment"))


def _photos(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([np.asarray(make_image("disc", rng, SIDE, SIDE)) for _ in range(count)])


def _draws(layer: augment.Augment, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, layer.draws), np.float32)


def _column(strengths: dict, name: str) -> float:
    """The draw that picks an operation."""
    return (list(strengths).index(name) + 0.5) / len(strengths)


@pytest.mark.parametrize("text", EVERY)
def test_all_follows_from_the_draws_example_by_example(text):
    layer, images = _layer(text), _photos(12)
    draws = _draws(layer, 12)
    whole = layer(images, draws).numpy()
    assert whole.shape == images.shape
    assert whole.min() >= 0
    assert whole.max() <= 255
    np.testing.assert_array_equal(_layer(text)(images, draws), whole)
    np.testing.assert_allclose(layer(images[[7, 2]], draws[[7, 2]]), whole[[7, 2]], atol=1e-2)
    other = layer(images, _draws(layer, 12, seed=1)).numpy()
    assert (np.abs(other - whole).max(axis=(1, 2, 3)) > 1).mean() > 0.6
    same = layer(images[:1].repeat(12, 0), draws).numpy()
    assert len({image.tobytes() for image in same}) > 6
    traced = tf.data.Dataset.from_tensor_slices((images, draws)).batch(12).map(layer)
    np.testing.assert_allclose(next(iter(traced)), whole, atol=1e-2)


def test_at_magnitude_0_randaugment_leaves_all_alone_but_for_the_histogram():
    images = _photos(40)
    layer = _layer("randaugment(2, 0)")
    draws = _draws(layer, 40)
    drawn = (draws[:, ::2] * len(policies._RANDAUGMENT)).astype(int)
    names = list(policies._RANDAUGMENT)
    plain = ~np.isin(drawn, [names.index("equalize"), names.index("autocontrast")]).any(1)
    assert 15 < plain.sum() < 40
    np.testing.assert_allclose(layer(images, draws)[plain], images[plain], atol=0.01)


@pytest.mark.parametrize(
    ("name", "up", "operation"),
    [
        ("identity", 0.0, lambda image: image),
        ("autocontrast", 0.0, ImageOps.autocontrast),
        ("equalize", 0.0, ImageOps.equalize),
        ("posterize", 0.9, lambda image: ImageOps.posterize(image, 4)),
        ("solarize", 0.9, lambda image: ImageOps.solarize(image, 26)),
        ("brightness", 0.9, lambda image: ImageEnhance.Brightness(image).enhance(0.19)),
        ("brightness", 0.1, lambda image: ImageEnhance.Brightness(image).enhance(1.81)),
        ("contrast", 0.1, lambda image: ImageEnhance.Contrast(image).enhance(1.81)),
        ("color", 0.9, lambda image: ImageEnhance.Color(image).enhance(0.19)),
    ],
)
def test_the_operations_of_randaugment_are_pillows(name, up, operation):
    images = _photos(3)
    draws = np.tile(np.float32([_column(policies._RANDAUGMENT, name), up]), (3, 1))
    found = _layer("randaugment(1, 9)")(images, draws).numpy()
    expected = np.stack([np.asarray(operation(Image.fromarray(image)), np.float32) for image in images])
    assert np.abs(found - expected).max() <= 1.6  # Pillow rounds the mean and every step


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("rotate", [[np.cos(np.pi / 6), -0.5, 0], [0.5, np.cos(np.pi / 6), 0]]),
        ("shear_x", [[1, 0.3, 0], [0, 1, 0]]),
        ("shear_y", [[1, 0, 0], [0.3, 1, 0]]),
        ("translate_x", [[1, 0, 2 * 150 / 331], [0, 1, 0]]),
        ("translate_y", [[1, 0, 0], [0, 1, 2 * 150 / 331]]),
        ("posterize", [[1, 0, 0], [0, 1, 0]]),
    ],
)
def test_the_moves_of_randaugment_reach_the_papers_range_either_way(name, matrix):
    one = policies.randaugment(1, 10)[0]
    draws = np.float32([[_column(policies._RANDAUGMENT, name), up] for up in (0.1, 0.9)])
    up, down = one.geometry(tf.constant(draws)).numpy()
    np.testing.assert_allclose(up[:2], matrix, atol=1e-5)
    np.testing.assert_allclose(down @ up, np.eye(3), atol=0.1)  # shears and turns undo each other


def test_operations_are_equally_frequent():
    u = tf.constant(np.random.default_rng(0).random((13_000, 3), np.float32))
    for found, strengths in (
        (policies.randaugment(1, 5)[0], policies._RANDAUGMENT),
        (policies.trivialaugment(), policies._TRIVIALAUGMENT),
    ):
        assert len(strengths) == 13
        matrices = found.geometry(u[:, : found.draws]).numpy()
        moved = np.abs(matrices - np.eye(3)).max((1, 2)) > 1e-6
        share = 5 / 13 * (1 if found.draws == 2 else 30 / 31)  # one of 31 magnitudes is 0
        assert moved.mean() == pytest.approx(share, abs=0.015)
        assert found.histogram(u[:, : found.draws]).numpy().mean() == pytest.approx(2 / 13, abs=0.012)
    picks = policies._pick(u[:, 0], 13).numpy()
    assert np.bincount(picks, minlength=13).min() > 880


def test_trivialaugment_spreads_over_its_range():
    u = np.random.default_rng(0).random((4000, 3), np.float32)
    u[:, 0] = _column(policies._TRIVIALAUGMENT, "rotate")
    matrices = policies.trivialaugment().geometry(tf.constant(u)).numpy()
    degrees = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    levels = np.unique(np.round(np.abs(degrees), 2))
    np.testing.assert_allclose(levels, np.arange(31) * 4.5, atol=0.02)
    assert abs((degrees > 0).mean() - 30 / 62) < 0.03


def _sub_policy(index: int, first: float = 0.0, second: float = 0.0) -> np.ndarray:
    return np.float32([[(index + 0.5) / 25, first, 0.1, second, 0.1]])


@pytest.mark.parametrize(
    ("index", "operations"),
    [
        (1, [lambda image: ImageOps.solarize(image, 256 * 5 / 9), ImageOps.autocontrast]),
        (2, [ImageOps.equalize, ImageOps.equalize]),
        (3, [lambda image: ImageOps.posterize(image, 7), lambda image: ImageOps.posterize(image, 7)]),
        (9, [ImageOps.equalize, lambda image: ImageOps.posterize(image, 7)]),
        (13, [ImageOps.invert, ImageOps.equalize]),
        (17, [lambda image: image, ImageOps.invert]),
    ],
)
def test_sub_policies_of_autoaugment_are_pillows(index, operations):
    images = _photos(1)
    found = _layer("autoaugment")(images, _sub_policy(index)).numpy()[0]
    image = Image.fromarray(images[0])
    for operation in operations:
        image = operation(image)
    assert np.abs(found - np.asarray(image, np.float32)).max() <= 1


def test_autoaugment_does_each_operation_with_its_probability():
    layer, images = _layer("autoaugment"), _photos(1)
    np.testing.assert_array_equal(layer(images, _sub_policy(1, 0.61, 0.61)), images)
    once = layer(images, _sub_policy(1, 0.59, 0.61)).numpy()[0]
    np.testing.assert_array_equal(once, ImageOps.solarize(Image.fromarray(images[0]), 256 * 5 / 9))
    greyed = layer(images, _sub_policy(19, 0.0, 0.99)).numpy()  # Color at 0: a factor of 0.1, as in the paper
    assert np.ptp(greyed, axis=3).max() < 0.12 * np.ptp(images.astype(float), axis=3).max() + 1


def test_augmix_is_a_mean_of_the_image_and_its_chains():
    images = _photos(2)
    layer = _layer("augmix(width=2, depth=1)")
    assert layer.draws == 2 * 4 + 3
    solarized = _column(policies._AUGMIX, "solarize")
    draws = np.float32([[0, solarized, 1 - 1e-7, 0, 0, _column(policies._AUGMIX, "equalize"), 0, 0, 0.3, 0.8, 0.4]] * 2)
    found = layer(images, draws).numpy()
    weights = -np.log(1 - np.array([0.3, 0.8]))
    weights = 0.6 * weights / weights.sum()
    for image, result in zip(images, found):
        pillow = Image.fromarray(image)
        chains = [ImageOps.solarize(pillow, 256 * 0.7), ImageOps.equalize(pillow)]
        expected = 0.4 * image + sum(w * np.asarray(chain, float) for w, chain in zip(weights, chains))
        assert np.abs(result - expected).max() < 0.1


def test_the_chains_of_augmix_are_of_every_length():
    layer, images = _layer("augmix(width=1)"), _photos(1).repeat(200, 0)
    draws = _draws(layer, 200)
    draws[:, -1] = 0  # nothing but the chain
    draws[:, 0] = 0.1  # of one operation: the other draws do not matter
    found = layer(images, draws).numpy()
    draws[:, 4:-2] = 0.5
    np.testing.assert_allclose(layer(images, draws), found, atol=1e-2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randaugment(0)", r"n must be a whole number in \[1, 10\]"),
        ("randaugment(2, 15)", r"m must be a number in \[0, 10\]. Received: 'randaugment\(2, 15\)'"),
        ("autoaugment('cifar10')", "policy must be 'imagenet'"),
        ("augmix(severity=0)", r"severity must be a number in \[0.1, 10\]"),
        ("trivialaugment(3)", "too many positional arguments"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _layer(text)
