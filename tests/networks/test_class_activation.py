"""Class activation maps: of a network whose reason is known, of every kind of features, and where there is none."""

import functools

import keras
import numpy as np
import planted
import pytest
from conftest import EVERY_BACKBONE

from kerasft.evaluation.faithfulness import enlarge
from kerasft.networks import class_activation, flip_averaging, heads
from kerasft.networks import network as networks
from kerasft.settings.config import Config


@functools.cache
def _known(depths: bool = False, head: str = "linear", outputs: int = 2) -> keras.Model:
    """Made and traced once."""
    return planted.network(depths, head, outputs)


@functools.cache
def _methods(model: keras.Model, task: str = "single_label") -> class_activation.Methods:
    return class_activation.find_methods(model, task)


def _maps(model: keras.Model, images: np.ndarray, columns: np.ndarray, task: str = "single_label", signs=None):
    found = _methods(model, task).found
    signs = np.ones(len(images)) if signs is None else signs
    return {name: method.compute(images, columns, signs) for name, method in found.items()}


def _share_near(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The share of each map within one place of the patch."""
    side = maps.shape[1]
    blocks = places.reshape(len(places), side, planted.SIDE // side, side, -1).any((2, 4))
    padded = np.pad(blocks, ((0, 0), (1, 1), (1, 1)))
    near = sum(padded[:, 1 + i : 1 + i + side, 1 + j : 1 + j + side] for i in (-1, 0, 1) for j in (-1, 0, 1)) > 0
    return (maps * near).sum((1, 2)) / maps.sum((1, 2))


@pytest.mark.parametrize(("depths", "head"), [(False, "linear"), (True, "linear"), (False, "linear(pooling=max)")])
def test_the_maps_lie_on_what_decides(depths, head):
    images, red, places = planted.images(6)
    model = _known(depths, head)
    found = _methods(model).found
    assert found["grad_cam"].layers == (("fine", "coarse") if depths else ("coarse",))
    assert (found["grad_cam"].side, found["layer_cam"].layers, found["layer_cam"].side) == (8, ("fine",), 16)
    for name, maps in _maps(model, images, red).items():
        assert maps.shape == (6, found[name].side, found[name].side) and maps.dtype == np.float32
        assert maps.min() >= 0 and _share_near(maps, places).min() > 0.99
        for one, place in zip(maps, places):
            assert place.ravel()[enlarge(one, planted.SIDE).argmax()]


def test_nothing_speaks_for_the_other_class():
    images, red, _ = planted.images(3)
    for maps in _maps(_known(), images, 1 - red).values():
        np.testing.assert_allclose(maps, 0, atol=1e-5)


def test_grad_cam_of_a_pooled_linear_head_is_its_weighted_channels():
    images, red, _ = planted.images(3)
    model = _known()
    features = keras.Model(model.inputs[0], model.get_layer("coarse").output)(images).numpy()
    kernel = model.get_layer("logits").get_weights()[0]
    weights = kernel - kernel.mean(-1, keepdims=True)
    # The gradient by a place is its share of the mean.
    expected = np.maximum(np.einsum("nhwc,cn->nhw", features, weights[:, red]), 0)
    np.testing.assert_allclose(_maps(model, images, red)["grad_cam"], expected, rtol=1e-4, atol=1e-4)


def test_under_regression_the_sign_says_which_way():
    images, red, places = planted.images(4)
    model, zeros = _known(outputs=1), np.zeros(4, int)
    signs = np.where(red, 1.0, -1.0)
    assert _share_near(_maps(model, images, zeros, "regression", signs)["grad_cam"], places).min() > 0.99
    np.testing.assert_allclose(_maps(model, images, zeros, "regression", -signs)["grad_cam"], 0, atol=1e-5)


def test_a_mirrored_network_has_the_mean_of_both_maps():
    images, red, _ = planted.images(3)
    plain = _known()
    both = flip_averaging.average_mirrored(plain)
    one, turned = _maps(plain, images, red), _maps(plain, images[:, :, ::-1], red)
    for name, maps in _maps(both, images, red).items():
        np.testing.assert_allclose(maps, (one[name] + turned[name][:, :, ::-1]) / 2, atol=1e-5)
    logits = class_activation.logits_model(both).predict(images, verbose=0)
    np.testing.assert_allclose(logits, both.predict(images, verbose=0), atol=1e-5)


def _tokens(extra: int, only_class: bool) -> keras.Model:
    """Sixteen patches of 8 pixels as tokens behind some extra ones, with one layer that mixes all tokens."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    patches = layers.Reshape((16, 6))(layers.Conv2D(6, 8, strides=8, name="patches")(inputs))
    hidden = layers.ZeroPadding1D((extra, 0))(patches) if extra else patches
    mixed = layers.Add(name="block")([hidden, layers.Dense(6)(hidden)])
    mixed = layers.Permute((2, 1))(layers.Dense(16 + extra, name="mixer")(layers.Permute((2, 1))(mixed)))
    end = layers.LayerNormalization(name="norm")(mixed)
    end = layers.Cropping1D((0, 15 + extra))(end) if only_class else end
    return keras.Model(inputs, heads.build("linear", "glorot_uniform", end, 3))


def test_tokens_are_laid_on_their_grid():
    images = planted.images(2)[0]
    whole, behind = _tokens(0, False), _tokens(1, False)
    for model in (whole, behind):
        found = _methods(model).found
        assert found["grad_cam"].side == 4 and found["grad_cam"].layers == ("norm",)
        assert _maps(model, images, np.array([0, 2]))["grad_cam"].shape == (2, 4, 4)


def test_where_the_head_sees_the_class_token_alone_an_earlier_layer_has_a_map():
    methods = class_activation.find_methods(_tokens(1, True), "single_label")
    assert list(methods.found) == ["layer_cam"]
    # Behind the layer that mixes them, the other tokens count no more.
    assert methods.found["layer_cam"].layers == ("block",)
    assert "Grad-CAM has no map: what the head pools (1x6)" in methods.notes[0]


def test_a_network_without_places_says_so():
    inputs = keras.Input((32, 32, 3))
    hidden = keras.layers.AveragePooling2D(32)(inputs)
    methods = class_activation.find_methods(
        keras.Model(inputs, heads.build("linear", "zeros", keras.layers.Conv2D(4, 1)(hidden), 2)), "single_label"
    )
    assert methods.found == {} and len(methods.notes) == 2
    assert "Layer-CAM has no map" in methods.notes[1]


@pytest.mark.large
@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_every_backbone_has_maps_of_its_last_and_of_a_finer_layer(backbone):
    size = 160
    config = Config(backbone=backbone, weights="none", image_size=size, head_init="glorot_uniform")
    network = networks.build(config, 3, "single_label")
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    # `_methods` would keep the network.
    methods = class_activation.find_methods(network.model, "single_label")
    assert list(methods.found) == ["grad_cam", "layer_cam"]
    assert methods.found["layer_cam"].side >= 2 * methods.found["grad_cam"].side
    for method in methods.found.values():
        assert np.isfinite(method.compute(images, np.array([0, 2]), np.ones(2))).all()
