"""What each surgery does by itself: which activations, which branches, which channels."""

import itertools

import keras
import numpy as np
import pytest

from kerasft.networks import blocks, residuals, surgery
from kerasft.networks import network as networks
from kerasft.networks.apply_surgeries import apply_surgeries
from kerasft.networks.multiplications import multiplications
from kerasft.networks.surgery import channels, moments
from kerasft.networks.surgery.activation import kind
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def _network(backbone="MobileNet(alpha=0.25)", **settings):
    keras.utils.set_random_seed(0)
    return networks.build(Config(backbone=backbone, weights="none", image_size=64, **settings), 3, "single_label")


def _kinds(network):
    operations = {operation.name: operation for operation in network.model.operations}
    return {name: kind(operations[name]) for name in network.backbone if kind(operations[name])}


def test_half_of_the_activations_are_those_of_the_last_half_of_the_blocks():
    network = _network()
    before = _kinds(network)
    after = _kinds(surgery.activation(network, 0.5, relu="swish"))
    assert set(before.values()) == {"relu"} and len(before) == 27
    start = network.backbone.index(blocks.start_of_last(network, 0.5))
    for name in before:
        assert after[name] == ("silu" if network.backbone.index(name) >= start else "relu")
    assert list(after.values()).count("silu") == 14


@pytest.mark.large
def test_the_gates_of_mobilenetv3_stay():
    network = _network("MobileNetV3Small")
    before, after = _kinds(network), _kinds(surgery.activation(network, relu="tanh", hard_silu="gelu"))
    assert set(before.values()) == {"relu", "hard_silu"} and set(after.values()) == {"tanh", "gelu"}
    relus = [layer for layer in network.model.layers if isinstance(layer, keras.layers.ReLU)]
    gates = [layer.name for layer in relus if layer.name not in before]
    assert len(gates) == 9
    kept = surgery.activation(network, relu="tanh").model
    assert all(isinstance(kept.get_layer(name), keras.layers.ReLU) for name in gates)


def test_a_prelu_has_one_slope_a_channel():
    found = surgery.activation(_network(), relu=Spec("PReLU", (), {"alpha_initializer": Spec("Constant", (0.25,))}))
    slopes = [layer for layer in found.model.layers if isinstance(layer, keras.layers.PReLU)]
    assert len(slopes) == 27
    assert slopes[-1].alpha.shape == (1, 1, 256)
    assert float(slopes[0].alpha[0, 0, 0]) == 0.25


def test_truncated_the_network_has_the_first_blocks():
    network = _network()
    starts = blocks.starts(network)
    found = surgery.truncate(network, 0.5)
    assert blocks.starts(found) == starts[:14]
    assert starts[14] not in found.backbone
    assert found.model.get_layer("logits").kernel.shape == (128, 3)
    vectors = surgery.truncate(_network(head="mlp(units=8, pooling='max')"), 0.5)
    assert isinstance(vectors.model.get_layer("features"), keras.layers.GlobalMaxPooling2D)


def test_the_branch_of_a_residual_sum_is_what_the_block_computed():
    found = residuals.find(_network("MobileNetV2(alpha=0.35)"))
    assert len(found) == 10
    assert all(one.last.endswith("project_BN") for one in found)
    assert residuals.find(_network()) == []


def test_stochastic_depth_grows_with_depth():
    network = surgery.stochastic_depth(_network("MobileNetV2(alpha=0.35)"), 0.5)
    drops = [layer for layer in network.model.layers if layer.name.endswith("_stochastic_depth")]
    assert [layer.rate for layer in drops] == pytest.approx([0.05 * place for place in range(1, 11)])
    assert all(layer.noise_shape == (None, 1, 1, 1) for layer in drops)
    branch = np.ones((2000, 2, 2, 1), np.float32)
    dropped = np.asarray(drops[-1](branch, training=True))
    # Of an image all or nothing, and the mean stays.
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert dropped.mean() == pytest.approx(1, abs=0.1)
    assert (dropped.std((1, 2, 3)) == 0).all()
    with pytest.raises(ValueError, match="of its own"):
        surgery.stochastic_depth(network, 0.5)


def test_ordinary_dropout_is_no_stochastic_depth(tmp_path):
    layers, inputs = keras.layers, keras.Input((32, 32, 3))
    hidden = layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    for shape in (None, (None, 1, 1, 8)):
        branch = layers.ReLU()(layers.Conv2D(8, 3, padding="same")(hidden))
        hidden = layers.Add()([hidden, layers.Dropout(0.1, shape)(branch)])
    keras.Model(inputs, hidden).save(tmp_path / "theirs.keras")
    network = surgery.stochastic_depth(
        networks.build(Config(backbone=str(tmp_path / "theirs.keras")), 3, "single_label")
    )
    assert sum(layer.name.endswith("_stochastic_depth") for layer in network.model.layers) == 2


@pytest.mark.large
def test_no_batchnorm_behind_a_convolution_is_left():
    network = _network("MobileNetV2(alpha=0.35)")
    found = surgery.fold_batchnorm(network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in found.model.layers)
    assert found.model.count_params() < network.model.count_params()


@pytest.mark.parametrize(
    "backbone", ["MobileNet(alpha=0.25)", pytest.param("MobileNetV2(alpha=0.35)", marks=pytest.mark.large)]
)
def test_channels_that_do_nothing_are_the_ones_that_go(backbone):
    """A third of each group gives zero wherever it goes, so the features without it are those with it."""
    network = _network(backbone)
    model = keras.Model(network.model.inputs[0], network.model.get_layer("features").input)
    traced, rng = channels.trace(model), np.random.default_rng(0)
    dead = {group: rng.permutation(size)[: size // 3] for group, size in traced.removable().items()}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            (group,) = traced.roots(layer.output)
            gamma, beta, mean, variance = layer.get_weights()
            gamma, beta = rng.uniform(0.5, 1.5, gamma.shape), rng.uniform(-0.5, 0.5, beta.shape)
            gamma[dead[group]] = beta[dead[group]] = 0
            layer.set_weights([gamma, beta, mean, variance])
    fraction = sum(map(len, dead.values())) / sum(traced.removable().values())
    found = surgery.prune(network, fraction)
    assert multiplications(found.model) < 0.6 * multiplications(network.model)
    before = np.asarray(model(IMAGES, training=False))
    after = np.asarray(
        keras.Model(found.model.inputs[0], found.model.get_layer("features").input)(IMAGES, training=False)
    )
    after, before = (values[..., np.abs(values).max((0, 1, 2)) > 0] for values in (after, before))
    assert after.shape[-1] > 30
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_what_a_channel_costs_is_its_share_of_the_layers_that_make_and_read_it():
    inputs = keras.Input((16, 16, 3))
    made = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    deep = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(made)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(keras.layers.ReLU()(deep)))
    traced = channels.trace(model)
    found = channels.multiplications(model, traced)
    (inner,), (outer,) = traced.roots(made), traced.roots(model.output)
    assert found[inner] == 16 * 16 * 3 * 9 + 8 * 8 * 9 + 8 * 8 * 4
    assert found[outer] == 8 * 8 * 8
    # With the share of the depthwise convolution counted once, the groups make up the whole twice: made and read.
    assert 8 * found[inner] + 4 * found[outer] == multiplications(model) + 8 * 8 * 8 * 4


def test_pruning_for_multiplications_removes_dearer_channels():
    network = _network()
    whole, by_count, by_flops = (
        multiplications(one.model)
        for one in (network, surgery.prune(network, 0.3), surgery.prune(network, 0.3, per="flops"))
    )
    assert by_flops < by_count < whole
    with pytest.raises(ValueError, match="per must be one of channels, flops"):
        surgery.prune(network, 0.3, per="bytes")


def test_moments_of_a_relu_are_those_of_a_rectified_normal():
    inputs = keras.Input((4, 4, 2))
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, keras.layers.ReLU()(norm(inputs)))
    norm.set_weights([np.array([1.0, 2.0]), np.array([0.0, 0.0]), np.zeros(2), np.ones(2)])
    found = moments.trace(model)[id(model.output)]
    scale = np.array([1.0, 2.0])
    np.testing.assert_allclose(found.mean, scale / np.sqrt(2 * np.pi), rtol=0.02)
    np.testing.assert_allclose(found.variance, scale**2 * (0.5 - 1 / (2 * np.pi)), rtol=0.02)


def test_what_flattens_keeps_its_channels(flat):
    network = networks.build(Config(backbone=flat, head_init="zeros"), 3, "single_label")
    with pytest.raises(ValueError, match="finds no channels"):
        surgery.prune(network, 0.5)


def test_surgeries_follow_each_other():
    told = []
    config = Config(surgery="truncate(0.5) | fold_batchnorm | activation(relu=LeakyReLU(0.1), blocks=0.2) | dropout")
    found = apply_surgeries(
        config, _network(), lambda spec, before, after: told.append((str(spec), before.cuts, after.cuts))
    )
    assert [row[0] for row in told] == [
        "truncate(0.5)",
        "fold_batchnorm",
        "activation(relu=LeakyReLU(0.1), blocks=0.2)",
        "dropout",
    ]
    assert all(row[2] == following[1] for row, following in itertools.pairwise(told))
    assert np.isfinite(np.asarray(found.model(IMAGES, training=False))).all()
    untouched = _network()
    assert apply_surgeries(Config(), untouched) is untouched
    with pytest.raises(
        UserError, match=r"--surgery: dropout\(\) rate must be a fraction in \(0, 1\).*Received: 'dropout\(2\)'"
    ):
        apply_surgeries(Config(surgery="dropout(2)"), untouched)
