"""Fake quantisation: what is rounded and what is not, its gradients, and that the real artefact computes the same."""

import importlib.util
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import shared

from kerasft.networks import eight_bits, fake_quantisation, surgery
from kerasft.networks.fake_quantisation import FakeQuantisation
from kerasft.networks.layer_names import EIGHT_BITS_SUFFIX
from kerasft.networks.network import Network

LAYERS = keras.layers
IMAGES = np.random.default_rng(0).uniform(100, 255, (24, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Network:
    """Each kind of kernel, a residual block, and a head; statistics and offsets are not trivial."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="images")
    hidden = LAYERS.Rescaling(1 / 127.5, -1.0, name="preprocess")(inputs)
    hidden = LAYERS.Conv2D(8, 3, use_bias=False, name="conv")(hidden)
    stem = LAYERS.ReLU(6.0, name="relu")(LAYERS.BatchNormalization(name="bn")(hidden))
    hidden = LAYERS.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(
        LAYERS.ZeroPadding2D(0, name="pad")(stem)
    )
    hidden = LAYERS.BatchNormalization(name="dw_bn")(hidden)
    hidden = LAYERS.Add(name="sum")([stem, hidden])
    hidden = LAYERS.SeparableConv2D(8, 3, activation="relu", name="sep")(hidden)
    hidden = LAYERS.Activation("silu", name="silu")(LAYERS.Conv2D(6, 1, name="last")(hidden))
    names = ("images", "preprocess", "conv", "bn", "relu", "pad", "dw", "dw_bn", "sum", "sep", "last", "silu")
    hidden = LAYERS.GlobalAveragePooling2D(name="features")(hidden)
    hidden = LAYERS.Dense(5, activation="relu", name="hidden")(hidden)
    model = keras.Model(inputs, LAYERS.Dense(3, name="logits")(hidden))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, LAYERS.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return Network(model, "small", "single_label", 16, True, "zeros", names, ("relu", "sum", "last"), names[-1:])


@pytest.fixture(scope="module")
def quantised(network) -> Network:
    made = fake_quantisation.with_fake_quantisation(network)
    fake_quantisation.measure(made, network, IMAGES)
    return made


def _outputs(network: Network) -> np.ndarray:
    return np.asarray(network.model(IMAGES, training=False))


def test_what_a_runtime_stores_is_rounded_and_nothing_else(network, quantised):
    rounded = {
        layer.name.removesuffix(EIGHT_BITS_SUFFIX)
        for layer in quantised.model.layers
        if isinstance(layer, FakeQuantisation)
    }
    # Not before a BatchNormalization or a ReLU that is computed with the convolution, and not the logits.
    assert rounded == {"preprocess", "relu", "dw_bn", "sum", "sep", "last", "silu", "features", "hidden"}
    assert set(quantised.backbone) == {*network.backbone} | {
        name + EIGHT_BITS_SUFFIX for name in rounded - {"features", "hidden"}
    }
    assert [v.path for v in quantised.model.trainable_variables] == [v.path for v in network.model.trainable_variables]


def test_every_kernel_and_every_stored_tensor_has_few_values(network, quantised):
    relu = quantised.model.get_layer("relu" + EIGHT_BITS_SUFFIX)
    inside = keras.Model(quantised.model.inputs[0], relu.output)
    found = np.asarray(inside(IMAGES))
    assert 10 < len(np.unique(found)) <= 256 and found.min() == 0
    low, high = float(relu.low), float(relu.high)
    exact = np.asarray(keras.Model(network.model.inputs[0], network.model.get_layer("relu").output)(IMAGES))
    assert (low, high) == (0.0, pytest.approx(exact.max(), rel=0.02))
    # The network of rounded kernels, whose calls round them again, is the same.
    before = _outputs(quantised)
    fake_quantisation.round_kernels(quantised)
    np.testing.assert_allclose(_outputs(quantised), before, rtol=1e-3, atol=1e-3)


def test_the_outputs_are_nearly_those_of_the_network(network, quantised):
    exact, found = _outputs(network), _outputs(quantised)
    assert 0 < np.abs(found - exact).mean() < 0.03 * exact.std()


def test_offsets_make_up_for_the_mean_error_of_rounded_kernels(network, quantised):
    inputs = network.model.get_layer("preprocess")(IMAGES)
    conv, norm = (network.model.get_layer(name) for name in ("conv", "bn"))
    rounded = quantised.model.get_layer("conv")(inputs)
    exact, found, without = norm(conv(inputs)), quantised.model.get_layer("bn")(rounded), norm(rounded)
    gaps = [np.abs(np.mean(np.asarray(one - exact), (0, 1, 2))).sum() for one in (found, without)]
    assert 0 < gaps[0] < 0.3 * gaps[1]


def test_gradients_pass_as_if_nothing_were_rounded(network):
    made = fake_quantisation.with_fake_quantisation(network)
    fake_quantisation.measure(made, network, IMAGES)
    found = []
    for model in (network.model, made.model):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(IMAGES, training=False)))
        found.append(tape.gradient(loss, [variable.value for variable in model.trainable_variables]))
    for variable, exact, rounded in zip(network.model.trainable_variables, *found, strict=True):
        exact, rounded = np.asarray(exact).ravel(), np.asarray(rounded).ravel()
        assert exact @ rounded > 0.9 * np.linalg.norm(exact) * np.linalg.norm(rounded), variable.path


def test_a_value_out_of_range_is_cut_off_and_has_no_gradient():
    layer = FakeQuantisation()
    layer.build(())
    values = tf.constant([-0.5, 0.0, 0.31, 1.0, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = layer(values)
    np.testing.assert_allclose(found, [0.0, 0.0, round(0.31 * 255) / 255, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(found, values), [0, 1, 1, 1, 0])


def test_a_network_in_half_precision_is_simulated_in_float32(network):
    half = surgery.precision(network, "mixed_bfloat16")
    made = fake_quantisation.with_fake_quantisation(half)
    fake_quantisation.measure(made, half, IMAGES)
    assert {layer.compute_dtype for layer in made.model.layers} == {"float32"}
    assert made.model.get_layer("relu" + EIGHT_BITS_SUFFIX).high > 0


@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="the extra 'lite' is not installed")
@pytest.mark.large
@pytest.mark.parametrize("text", ["onnx", "litert"])
def test_the_artefact_computes_what_was_simulated(tmp_path, text):
    """Of a pretrained network on photographs: the errors of the artefact are those that were simulated."""
    from kerasft.data import decode
    from kerasft.export.portable import FORMATS, publish
    from kerasft.export.portable.bias_correction import correct_biases
    from kerasft.export.portable.format import Source
    from kerasft.networks import network as networks
    from kerasft.settings.config import Config

    weights = str(shared("weights", "mobilenet_0.25_224_no_top.h5"))
    files = sorted(shared("data", "flowers5", "train").rglob("*.jpg"))[::12]
    images = decode.decode_batch(tf.constant([file.read_bytes() for file in files]), 128, "crop").numpy()
    seen, unseen = images[::2].astype(np.float32), images[1::2].astype(np.float32)
    given = {"weights": weights, "image_size": 128, "head_init": "glorot_uniform"}
    network = networks.build(Config(backbone="MobileNet(alpha=0.25)", **given), 5, "single_label")
    made = fake_quantisation.with_fake_quantisation(network)
    fake_quantisation.measure(made, network, seen)
    form = FORMATS[text]("int8")
    form.write(Source(network, lambda: seen, lambda: correct_biases(network, seen)), tmp_path)
    shutil.copyfile(publish.STANDALONE / f"{text}.py", tmp_path / "runtime.py")
    found = publish.load(tmp_path)(unseen)
    exact, simulated = (np.asarray(tf.nn.softmax(one.model.predict(unseen, verbose=0))) for one in (network, made))
    assert np.corrcoef((found - exact).ravel(), (simulated - exact).ravel())[0, 1] > 0.5
    assert np.abs(found - simulated).mean() < np.abs(found - exact).mean()


def test_rounding_twice_changes_nothing():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 8, 16)).astype(np.float32)
    once = eight_bits.round_kernel(kernel, False)
    scaled = once * np.random.default_rng(2).uniform(-2, 2, 16).astype(np.float32)
    np.testing.assert_allclose(eight_bits.round_kernel(once, False), once, rtol=1e-6)
    np.testing.assert_allclose(eight_bits.round_kernel(scaled, False), scaled, rtol=1e-6)
