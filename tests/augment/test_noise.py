"""Noise: its distribution, that an image has its own whatever the batch, and what is left alone."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kerasft import augment
from kerasft.augment import pixels
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError


def _layer(recipe: str):
    return augment.build(specs.parse(recipe, "--augment"))


def test_the_noise_is_normal_and_independent():
    grey = np.full((2, 64, 64, 3), 128, np.uint8)
    found = pixels.add_noise(grey, tf.constant([1, 2], tf.uint32), tf.constant([20.0, 5.0])).numpy() - 128
    for one, deviation in zip(found, (20, 5)):
        assert stats.kstest(one.ravel() / deviation, "norm").pvalue > 1e-3
        across = [
            np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1],
            np.corrcoef(one[..., 0].ravel(), one[..., 1].ravel())[0, 1],
        ]
        assert np.abs(across).max() < 0.05
    assert abs(np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1]) < 0.05


def test_an_image_has_its_own_noise_whatever_the_batch():
    layer = _layer("noise(0.2, probability=1)")
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    draws = tf.random.stateless_uniform([4, layer.draws], (1, 2))
    whole = layer(images, draws).numpy()
    np.testing.assert_array_equal(layer(images[2:3], draws[2:3]).numpy()[0], whole[2])
    assert whole.min() >= 0 and whole.max() <= 255
    assert np.abs(whole - images).reshape(4, -1).max(1).min() > 1


def test_part_of_the_images_stay_as_they_are():
    images = np.full((400, 4, 4, 3), 128, np.uint8)
    layer = _layer("noise(0.1, probability=0.25)")
    changed = (layer(images, tf.random.stateless_uniform([400, layer.draws], (3, 4))).numpy() != 128).any((1, 2, 3))
    assert 0.17 < changed.mean() < 0.33
    untouched = _layer("noise(0)")
    np.testing.assert_array_equal(untouched(images, tf.zeros([400, untouched.draws])).numpy(), images)


@pytest.mark.parametrize("recipe", ["noise(2)", "noise(0.1, probability=-1)"])
def test_mistakes(recipe):
    with pytest.raises(UserError, match=r"must be a number in \[0, 1\]"):
        _layer(recipe)
