"""Rounded weights: how exact they are, how small the file is, and that they come back as they were written."""

import keras
import numpy as np
import pytest

from kerasft.export.portable import keras as keras_format
from kerasft.export.portable.format import Source
from kerasft.export.standalone.keras import unpack
from kerasft.networks.heads import GeM
from kerasft.networks.network import Network


def _network(*layers):
    keras.utils.set_random_seed(0)
    inputs = outputs = keras.Input((8, 8, 3))
    for layer in layers:
        outputs = layer(outputs)
    return Network(keras.Model(inputs, outputs), "random", "single_label", 8, True, "zeros", (), ())


@pytest.fixture
def network():
    """Kernels of every kind; their channels differ a thousandfold."""
    layers = keras.layers
    made = _network(
        layers.Conv2D(16, 3, groups=1),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.SeparableConv2D(9, 3),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(200),
        layers.Dense(3),
    )
    rng = np.random.default_rng(0)
    made.model.set_weights(
        [weight * 10 ** rng.uniform(-2, 1, weight.shape[-1:]) + 0.01 for weight in made.model.get_weights()]
    )
    return made


@pytest.mark.parametrize(("precision", "levels"), [("int8", 127), ("int4", 7)])
def test_every_weight_is_within_half_a_step(network, tmp_path, precision, levels):
    written = keras_format(precision)
    written.write(Source(network, calibration=None, corrected=lambda: network), tmp_path)
    first, second = unpack(tmp_path), unpack(tmp_path)
    for variable, one, again in zip(network.model.weights, first.get_weights(), second.get_weights(), strict=True):
        own = np.asarray(variable)
        np.testing.assert_array_equal(one, again)
        assert one.dtype == np.float32 and one.shape == own.shape
        if own.ndim < 2:
            np.testing.assert_array_equal(one, own)
            continue
        depthwise = "depthwise" in variable.path
        rows = own.reshape(-1, own.shape[-2] * own.shape[-1] if depthwise else own.shape[-1])
        steps = np.abs(rows).max(0) / levels
        error = np.abs(one.reshape(rows.shape) - rows)
        assert (error <= 0.5001 * steps).all(), variable.path


def test_four_bits_share_a_scale_by_groups_of_rows(tmp_path):
    """A large weight in one group leaves the others as exact as they are."""
    network = _network(keras.layers.Flatten(), keras.layers.Dense(5, use_bias=False))
    kernel = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
    kernel[150] *= 1000
    network.model.set_weights([kernel])
    keras_format("int4").write(Source(network, calibration=None, corrected=lambda: network), tmp_path)
    (found,) = unpack(tmp_path).get_weights()
    steps = np.abs(kernel[:128]).reshape(2, 64, 5).max(1).repeat(64, axis=0) / 7
    assert (np.abs(found - kernel)[:128] <= 0.5001 * steps).all()


def test_the_file_is_a_fraction_of_the_weights(tmp_path):
    network = _network(keras.layers.Flatten(), keras.layers.Dense(2000), keras.layers.Dense(3))
    whole = sum(weight.nbytes for weight in network.model.get_weights())
    for precision, share in (("int8", 0.26), ("int4", 0.16)):
        keras_format(precision).write(Source(network, calibration=None, corrected=lambda: network), tmp_path)
        assert (tmp_path / f"model.q{precision[3:]}.npz").stat().st_size < share * whole


@pytest.mark.parametrize("mirrored", [False, True])
def test_layers_that_compute_with_copies_of_their_weights_get_the_right_ones(tmp_path, mirrored):
    """A Normalization layer makes constants of its weights."""
    layers = keras.layers
    network = _network(layers.Normalization(name="standardise"), layers.Flatten(), layers.Dense(3))
    (standardise,) = [layer for layer in network.model.layers if layer.name == "standardise"]
    standardise.set_weights([np.array([3.0, -2, 1], np.float32), np.array([4.0, 9, 16], np.float32), np.array(7)])
    standardise.finalize_state()
    network = network._replace(tta="flip") if mirrored else network
    keras_format("int8").write(Source(network, calibration=None, corrected=lambda: network), tmp_path)
    images = np.random.default_rng(0).uniform(0, 9, (4, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(network.served()(images))
    np.testing.assert_allclose(unpack(tmp_path)(images), expected, atol=0.02 * np.abs(expected).max())


def test_a_head_with_a_layer_of_ours_is_read(tmp_path, monkeypatch):
    network = _network(GeM(name="features"), keras.layers.Dense(3))
    keras_format("int8").write(Source(network, calibration=None, corrected=lambda: network), tmp_path)
    assert [type(layer) for layer in unpack(tmp_path).layers if layer.name == "features"] == [GeM]


def test_no_file_or_two_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have one file"):
        unpack(tmp_path)
