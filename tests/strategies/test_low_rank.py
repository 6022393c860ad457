"""Low-rank updates: the same function at first, one that is folded into the kernels at the end, a straight way between."""

import keras
import numpy as np
import pytest

from kerasft.networks import network as networks
from kerasft.networks import surgery
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import freezing, low_rank
from kerasft.strategies.lora import lora
from kerasft.strategies.variables import copy_back, phase_network
from kerasft.training.weight_interpolation import mixed

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="he_normal")
    built = networks.build(config, 3, "single_label")
    # So that signals come through the random network.
    for layer in built.model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance * 0.05)
    return built


def _outputs(network):
    return np.asarray(network.model(IMAGES, training=False))


def _updated(network, rank=4):
    """The network with updates that are not zero, as a phase leaves it."""
    adapted = low_rank.with_updates(network, rank, 8.0)
    rng = np.random.default_rng(1)
    for variable in adapted.model.weights:
        if variable.name == "lora_kernel_b":
            variable.assign(rng.normal(0, 0.05, variable.shape))
    return adapted


def test_the_function_is_the_same_at_first_and_after_folding(network):
    before = network.model.get_weights()
    paths = [weight.path for weight in network.model.weights]
    adapted = low_rank.with_updates(network, 4, 8.0)
    np.testing.assert_allclose(_outputs(adapted), _outputs(network), rtol=1e-5, atol=1e-5)
    adapted = _updated(network)
    trained = _outputs(adapted)
    assert np.abs(trained - _outputs(network)).max() > 1e-2
    for ours, theirs in zip(network.model.get_weights(), before):
        np.testing.assert_array_equal(ours, theirs)
    adapted.model.set_weights(low_rank.fold(adapted.model, adapted.model.get_weights()))
    np.testing.assert_allclose(_outputs(adapted), trained, rtol=1e-4, atol=1e-4)
    copy_back(adapted, network, lora(rank=4))
    np.testing.assert_allclose(_outputs(network), trained, rtol=1e-4, atol=1e-4)
    assert [weight.path for weight in network.model.weights] == paths
    moved = {path for path, old, new in zip(paths, before, network.model.get_weights()) if not np.array_equal(old, new)}
    # No depthwise kernel; not the first kernels, which have fewer values than their updates would have.
    assert "conv_pw_13/kernel" in moved
    assert all(path.startswith(("conv_pw_", "conv1/")) and path.endswith("/kernel") for path in moved)


def test_a_mix_with_the_weights_before_lies_on_a_straight_line(network):
    adapted = low_rank.with_updates(network, 4, 8.0)
    first = adapted.model.get_weights()
    last = low_rank.fold(adapted.model, _updated(network).model.get_weights())
    adapted.model.set_weights(mixed(first, last, 0.25))
    layer = adapted.model.get_layer("conv_pw_13")
    before, after = np.asarray(network.model.get_layer("conv_pw_13").kernel), None
    adapted_kernel = np.asarray(layer.kernel)
    adapted.model.set_weights(last)
    after = np.asarray(layer.kernel)
    np.testing.assert_allclose(adapted_kernel, 0.75 * before + 0.25 * after, rtol=1e-5, atol=1e-6)


def test_few_parameters_train_and_in_mixed_precision_they_are_float32(network):
    phase = lora(rank=4, epochs=1)
    half = surgery.precision(network, "mixed_bfloat16")
    adapted = phase_network(half, phase)
    trainable, frozen = freezing.apply(adapted, phase)
    assert trainable < 0.2 * frozen
    assert {variable.dtype for variable in adapted.model.trainable_variables} == {"float32"}
    head = {variable.path for variable in adapted.model.trainable_variables if variable.path.startswith("logits/")}
    assert head == {"logits/kernel", "logits/bias"}
    own = [variable for variable in adapted.model.trainable_variables if variable.path not in head]
    # The first pointwise kernels have no more values than their updates would have, and depthwise ones get none.
    updated = {layer.name for layer in adapted.model.layers if getattr(layer, "lora_enabled", False)}
    assert {"conv1", "conv_pw_13"} < updated
    assert {variable.path for variable in own} == {f"{name}/lora_kernel_{one}" for name in updated for one in "ab"}
    before = {variable.path: np.asarray(variable).copy() for variable in adapted.model.weights}
    adapted.model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    adapted.model.fit(IMAGES, np.arange(4) % 3, epochs=2, verbose=0)
    moved = {path for path, value in before.items() if not np.array_equal(value, np.asarray(_by(adapted, path)))}
    # In the first step B is zero, so A stays; in the second both move.
    trained = {variable.path for variable in adapted.model.trainable_variables}
    assert moved == trained


def test_a_rank_that_no_kernel_bears_is_refused(network):
    few = lora(rank=4, epochs=1)
    # Before the updates are there, and in the network that has them.
    assert freezing.unfrozen(network, few) == freezing.unfrozen(phase_network(network, few), few)
    with pytest.raises(UserError, match=r"--phases: lora\(\) finds nothing to train in .*low-rank updates"):
        freezing.unfrozen(network, lora(rank=10_000, epochs=1))


def _by(network, path):
    return next(weight for weight in network.model.weights if weight.path == path)
