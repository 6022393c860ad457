"""The network of a run: in every precision the same weights, names and float32 ends."""

import keras
import numpy as np
import pytest
from absl import flags
from conftest import EVERY_BACKBONE, ROOT, SMALL

from kerasft import strategies
from kerasft.networks import network as networks
from kerasft.networks import surgery
from kerasft.optimization import optimizers
from kerasft.settings import command_flags
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import freezing, plan_checks, planning

HALF = ["mixed_bfloat16", "mixed_float16"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def _network(backbone="MobileNet(alpha=0.25)", **settings):
    settings = {"weights": "none", "image_size": 32, "head": "mlp", "head_init": "he_normal", **settings}
    return networks.build(Config(backbone=backbone, **settings), 3, "single_label")


@pytest.mark.parametrize("policy", HALF)
@pytest.mark.parametrize("backbone", SMALL)
def test_every_precision_has_the_same_weights_and_float32_ends(backbone, policy, images):
    network = _network(backbone)
    half = surgery.precision(network, policy)
    assert [o.name for o in half.model.operations] == [o.name for o in network.model.operations]
    assert half._replace(model=None) == network._replace(model=None)
    policies = {layer.name: layer.dtype_policy.name for layer in half.model.layers}
    prepares = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.InputLayer)
    for layer in half.model.layers:
        exact = layer.name not in network.backbone or isinstance(layer, prepares)
        assert policies[layer.name] == ("float32" if exact or hasattr(layer, "layers") else policy)
        for weight in layer.weights:
            assert weight.dtype in ("float32", "int32", "int64")
    expected, found = network.model(images), half.model(images)
    assert found.dtype == half.model.get_layer("features").output.dtype == "float32"
    assert half.model.output.dtype == "float32"
    scale = np.abs(expected).max()
    if policy == "mixed_bfloat16":  # what goes through a random network is too faint for float16
        assert 0 < np.abs(np.asarray(found) - expected).max() < 0.1 * scale
    assert np.all(np.isfinite(found))
    back = surgery.precision(half, "float32")
    np.testing.assert_allclose(back.model(images), expected, rtol=1e-5, atol=1e-5 * scale)
    assert surgery.precision(half, policy) is half
    assert surgery.precision(back, "float32") is back


@pytest.mark.parametrize("policy", [HALF[0], pytest.param(HALF[1], marks=pytest.mark.large)])
def test_every_precision_trains(policy, images):
    network = surgery.precision(_network(), policy)
    labels = np.array([0, 2])
    freezing.apply(network, strategies.full(batch_norm="train"))
    parsed = specs.parse_one("adamw", "--optimizer"), specs.parse_one("constant", "--schedule")
    optimizer, _ = optimizers.build(*parsed, 1e-3, 10, model=network.model)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.model.compile(optimizer, loss, jit_compile=False)
    losses = network.model.fit(images, labels, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert network.model.optimizer is optimizer
    freezing.release(network)
    served = surgery.precision(network, "float32")
    norms = [layer for layer in served.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.99}
    for ours, theirs in zip(served.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_statistics_of_the_images_stay_with_the_model(images, tmp_path):
    network = _network(preprocessing="dataset")
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    networks.set_pixel_statistics(network, mean, variance)
    half = surgery.precision(network, "mixed_bfloat16")
    network.model.save(tmp_path / "model.keras")
    for kept in (network.model, half.model, keras.models.load_model(tmp_path / "model.keras")):
        found = np.asarray(keras.Model(kept.inputs[0], kept.get_layer("preprocess").output)(images))
        np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(found.std((0, 1, 2)), 1, atol=1e-4)


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(path.name, marks=[pytest.mark.large] if "_gpu" in path.name else [])
        for path in sorted((ROOT / "pipelines").glob("*.flags"))
    ],
)
def test_every_preset_names_a_network_and_phases_that_exist(preset):
    """Its own backbone, head, optimizer and schedule; tests/test_job.py runs it with a small one."""
    values = flags.FlagValues()
    command_flags.define_flags(values)
    flags.DEFINE_string("flagfile", None, "", flag_values=values) if "flagfile" not in values else None
    values(["kerasft", f"--flagfile={ROOT / 'pipelines' / preset}", "--weights=none", "--image_size=32"])
    settings = command_flags.make_config(values)
    task = settings.task.replace("auto", "single_label")
    network = surgery.precision(networks.build(settings, 3, task), settings.precision.replace("auto", "float32"))
    plan_checks.check(settings, network)
    assert any(phase.epochs for phase in planning.plan(settings, network, 100)[0])


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_on_images_of_another_size_the_layers_and_weights_are_the_same(backbone):
    network = _network(backbone, image_size=128)
    smaller = surgery.resolution(network, 96).model
    assert smaller.inputs[0].shape == (None, 96, 96, 3)
    assert [id(weight) for weight in smaller.weights] == [id(weight) for weight in network.model.weights]
    alone = _network(backbone, image_size=96).model
    alone.set_weights(network.model.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    expected = np.asarray(alone(pixels, training=False))
    np.testing.assert_allclose(smaller(pixels, training=False), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert surgery.resolution(network, 128).model is network.model


def test_a_network_made_for_one_size_says_so(flat):
    network = _network(flat, image_size=None, weights="imagenet")
    with pytest.raises(
        UserError, match=r"fit images of 64 pixels, not of this size; leave image_size=\. Received: image_size=32"
    ):
        surgery.resolution(network, 32)


@pytest.mark.parametrize("size", [96, 192, 448])
def test_an_operation_for_one_size_is_found_by_a_call(size, tmp_path):
    layers, inputs = keras.layers, keras.Input((224, 224, 3))
    hidden = layers.Conv2D(4, 32, strides=32)(layers.Rescaling(1 / 255)(inputs))
    # Of images of 448 pixels it makes four rows each, without an error.
    hidden = layers.LayerNormalization()(keras.ops.reshape(hidden, (-1, 49, 4)))
    keras.Model(inputs, hidden).save(tmp_path / "theirs.keras")
    network = _network(str(tmp_path / "theirs.keras"), image_size=None, weights="imagenet")
    with pytest.raises(UserError, match=rf"fit images of 224 pixels, .*Received: image_size={size}"):
        surgery.resolution(network, size)


def test_an_operation_for_any_size_is_no_mistake(tmp_path):
    layers, inputs = keras.layers, keras.Input((64, 64, 3))
    hidden = layers.Conv2D(4, 32, strides=32)(layers.Rescaling(1 / 255)(inputs))
    gate = keras.ops.reshape(layers.GlobalAveragePooling2D()(hidden), (-1, 1, 1, 4))
    keras.Model(inputs, layers.Multiply()([hidden, gate])).save(tmp_path / "theirs.keras")
    network = _network(str(tmp_path / "theirs.keras"), image_size=None, weights="imagenet")
    assert surgery.resolution(network, 96).model.inputs[0].shape == (None, 96, 96, 3)
