"""The contract of every corruption, on a photograph."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from kerasft.evaluation import corruptions
from kerasft.evaluation.corruptions import CORRUPTIONS, STRENGTHS


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Scikit-learn's flower, uint8 [96, 96, 3]."""
    return np.asarray(Image.fromarray(load_sample_image("flower.jpg")[:, 100:527]).resize((96, 96)))


def distance(image: np.ndarray, other: np.ndarray) -> float:
    """The root mean square difference in levels of 0..255."""
    return float(np.sqrt(np.square(image.astype(float) - other).mean()))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_goes_further_with_its_strength(name, photograph):
    made = [corruptions.corrupt(name, photograph, strength, 0, "a.jpg") for strength in (0, *STRENGTHS)]
    gaps = [distance(photograph, image) for image in made]
    assert gaps[0] == 0
    assert gaps[1] > 1
    assert all(np.diff(gaps) > 0), gaps


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("kind", ["photograph", "black", "white", "tiny"])
def test_shape_and_type_stay_and_the_image_is_not_changed(name, kind, photograph):
    flat = {"black": np.zeros((32, 32, 3), np.uint8), "white": np.full((32, 32, 3), 255, np.uint8)}
    image = {**flat, "photograph": photograph, "tiny": photograph[:3, :3]}[kind]
    before = image.copy()
    for strength in (0, *STRENGTHS):
        made = corruptions.corrupt(name, image, strength, 0, "a.jpg")
        assert (made.shape, made.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_and_file_give_the_same_image(name, photograph):
    first = corruptions.corrupt(name, photograph, 3, 0, "é\udcff.jpg")
    np.testing.assert_array_equal(first, corruptions.corrupt(name, photograph, 3, 0, "é\udcff.jpg"))


@pytest.mark.parametrize("name", ["gaussian_noise", "occlusion"])
def test_another_seed_or_file_gives_another_image(name, photograph):
    first = corruptions.corrupt(name, photograph, 3, 0, "a.jpg")
    for seed, file in ((1, "a.jpg"), (0, "b.jpg")):
        assert distance(first, corruptions.corrupt(name, photograph, 3, seed, file)) > 1


def test_brightness_keeps_hue_and_black_becomes_grey():
    image = np.array([[[200, 100, 50], [0, 0, 0]]], np.uint8)
    (colour, black) = corruptions.brightness(image, -0.2, np.random.default_rng(0))[0]
    np.testing.assert_allclose(colour, np.array([200, 100, 50]) * (149 / 200), atol=1)
    assert black.tolist() == [0, 0, 0]
    assert corruptions.brightness(image, 0.2, np.random.default_rng(0))[0, 1].tolist() == [51, 51, 51]


def test_noise_and_contrast_have_their_values():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = corruptions.gaussian_noise(grey, 0.08, np.random.default_rng(0))
    assert noisy.std() / 255 == pytest.approx(0.08, rel=0.02)
    halves = np.repeat(np.array([[[80] * 3], [[160] * 3]], np.uint8), 4, 1)
    flat = corruptions.contrast(halves, 0.1, np.random.default_rng(0))
    assert sorted(set(flat.ravel().tolist())) == [116, 124]


def test_occlusion_covers_its_share_and_scale_leaves_its_side():
    white = np.zeros((100, 100, 3), np.uint8)
    white[:50] = 255
    covered = corruptions.occlusion(white, 0.25, np.random.default_rng(0))
    assert (covered == 128).all(-1).mean() == pytest.approx(0.25, abs=1e-9)
    small = corruptions.scale(white, 0.5, np.random.default_rng(0))
    assert (small == 128).all(-1).mean() == pytest.approx(0.75, abs=0.01)
