"""Kernels in 8 bits shift each output by a constant, and the corrected biases take it off."""

import keras
import numpy as np
import pytest

from kerasft.export.portable import bias_correction
from kerasft.networks import eight_bits, flip_averaging
from kerasft.networks.network import Network

LAYERS = keras.layers


def network(mirror: bool = False) -> Network:
    """Convolutions of every kind, on images whose channels have means far from 0."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="images")
    hidden = LAYERS.Conv2D(8, 3, use_bias=False, kernel_initializer="random_normal")(inputs)
    hidden = LAYERS.ReLU(6.0)(LAYERS.BatchNormalization(name="norm")(hidden))
    hidden = LAYERS.DepthwiseConv2D(3, depth_multiplier=2)(hidden)
    hidden = LAYERS.Conv2D(12, 3, groups=4)(hidden)
    hidden = LAYERS.GlobalAveragePooling2D()(hidden)
    model = keras.Model(inputs, LAYERS.Dense(3)(hidden))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.3, 1.5, value.shape) for value in layer.get_weights()])
    model = flip_averaging.average_mirrored(model) if mirror else model
    return Network(model, "test", "single_label", 16, True, "", (), ())


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(50, 250, (12, 16, 16, 3)).astype(np.float32)


def linear(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, eight_bits.LINEAR)]


@pytest.mark.parametrize("mirror", [False, True])
def test_the_outputs_are_nearer_than_without_the_correction(images, mirror):
    before = network(mirror)
    weights = [value.copy() for value in before.model.get_weights()]
    corrected = bias_correction.correct_biases(before, images)
    expected, found = before.model(images), corrected.model(images)
    # The same kernels with the biases as they were.
    flat = flip_averaging.without_mirroring(corrected.model)
    means = eight_bits.input_means(flat, linear(flat), images)
    no_error = bias_correction.correct_biases(network(mirror)._replace(), np.zeros_like(images))
    without = no_error.model(images)
    assert len(means) == 4 and not [one for one in flat.layers if isinstance(one, LAYERS.BatchNormalization)]
    gaps = [np.abs(np.asarray(one) - np.asarray(expected)).mean() for one in (found, without)]
    assert 0 < gaps[0] < 0.5 * gaps[1]
    # What is trained stays as it is.
    assert all((a == b).all() for a, b in zip(weights, before.model.get_weights()))
