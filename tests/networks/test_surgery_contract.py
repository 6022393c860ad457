"""What every surgery keeps to: a Network again, the same weights to the bit, the same outputs where it says so."""

import keras
import numpy as np
import pytest
from conftest import EVERY_BACKBONE

from kerasft import strategies
from kerasft.networks import backbones, blocks, copies, layer_names, surgery
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.spec import Spec
from kerasft.strategies import freezing

# For each surgery the arguments that it is tried with, and whether it then computes the same function of the same images.
CASES = {
    "precision": [(("float32",), True), (("mixed_bfloat16",), False), (("mixed_float16",), False)],
    "resolution": [((64,), True), ((96,), False), ((32,), False)],
}
GIVEN = [(name, arguments, alike) for name, cases in CASES.items() for arguments, alike in cases]


# These are ConvNeXtBase with more channels. One with its copies takes 9 GB.
WIDER = ("ConvNeXtLarge", "ConvNeXtXLarge")
BACKBONES = [one for one in EVERY_BACKBONE if getattr(one, "values", [one])[0] not in WIDER]


def _network(backbone: str) -> Network:
    keras.utils.set_random_seed(0)
    config = Config(backbone=backbone, weights="none", image_size=64, head="mlp", head_init="he_normal")
    return networks.build(config, 3, "single_label")


def _images(side: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def _same(ours: keras.Model, theirs: keras.Model) -> None:
    assert list(copies.weights_by_name(ours)) == list(copies.weights_by_name(theirs))
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), one.path


# What `--surgery` names: arguments, and how far outputs may be from those before, as a fraction; None for other outputs.
NAMED = {
    "activation": [
        ({"relu": "swish"}, None),
        ({"relu": Spec("PReLU", (), {"alpha_initializer": "ones"}), "blocks": 0.5}, None),
        ({"relu": "tanh"}, None),
        ({"relu": "swish", "blend": 4}, 0.0),
        ({"relu": "PReLU", "blend": 4}, 0.0),
    ],
    "dropout": [({"rate": 0.5}, 0.0), ({"blocks": 0.3}, 0.0)],
    "fold_batchnorm": [({}, 1e-4)],
    "prune": [({"fraction": 0.3}, None)],
    "stochastic_depth": [({"rate": 0.5}, 0.0)],
    "truncate": [({"keep": 0.6}, None)],
}
EACH = [(name, *case) for name, cases in NAMED.items() for case in cases]


def test_every_surgery_is_tried_here():
    assert set(surgery.__all__) == set(CASES) | set(NAMED)
    assert {function.__name__ for function in surgery.NAMED} == set(NAMED)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("name", "arguments", "alike"), GIVEN)
def test_a_network_comes_of_a_network_with_the_same_weights(backbone, name, arguments, alike):
    # InceptionV3 and its like take no less than 75 pixels.
    sizes = [argument for argument in arguments if isinstance(argument, int)]
    if sizes and min(sizes) < 75 and backbone.startswith(("Inception", "Xception")):
        pytest.skip(f"{backbone} takes no images of {sizes[0]} pixels")
    network = _network(backbone) if not backbone.startswith(("Inception", "Xception")) else None
    if network is None:
        pytest.skip(f"{backbone} takes no images of 64 pixels")
    kept = [np.asarray(weight).tobytes() for weight in network.model.weights]
    found = getattr(surgery, name)(network, *arguments)
    assert isinstance(found, Network)
    # All that is said of the network is as before, but for what the surgery changes.
    changed = {"model": None} | ({"size": None} if name == "resolution" else {})
    assert found._replace(**changed) == network._replace(**changed)
    _same(found.model, network.model)
    assert found.model.count_params() == network.model.count_params()
    assert [np.asarray(weight).tobytes() for weight in network.model.weights] == kept
    assert found.model.output.dtype == "float32"
    side = found.size
    assert found.model.inputs[0].shape == (None, side, side, 3)
    if alike:
        expected = np.asarray(network.model(_images(64), training=False))
        got = np.asarray(found.model(_images(64), training=False))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "there", "back"), [("precision", "mixed_bfloat16", "float32"), ("resolution", 96, 64)]
)
def test_there_and_back_again_the_outputs_are_the_same(name, there, back):
    network = _network("MobileNet(alpha=0.25)")
    change = getattr(surgery, name)
    returned = change(change(network, there), back)
    _same(returned.model, network.model)
    expected = np.asarray(network.model(_images(64), training=False))
    found = np.asarray(returned.model(_images(64), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "argument"), [("precision", "float32"), ("resolution", 64)])
def test_where_nothing_is_to_change_the_network_itself_comes_back(name, argument):
    network = _network("MobileNet(alpha=0.25)")
    assert getattr(surgery, name)(network, argument) is network


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> Network:
    """A network with a residual block, a gate, a concatenation and a fused activation, whose statistics are not trivial."""
    keras.utils.set_random_seed(0)
    layers, ops = keras.layers, keras.ops
    inputs = keras.Input((32, 32, 3))

    def block(hidden, filters, name, kind=layers.Conv2D, **more):
        first = () if kind is layers.DepthwiseConv2D else (filters,)
        hidden = kind(*first, 3, padding="same", use_bias=False, name=f"{name}_conv", **more)(hidden)
        return layers.ReLU(6.0, name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(hidden))

    stem = block(layers.Rescaling(1 / 127.5, -1.0)(inputs), 8, "stem", strides=2)
    branch = block(block(stem, 8, "depthwise", layers.DepthwiseConv2D), 8, "branch")
    hidden = layers.Add(name="sum")([stem, branch])
    projected = layers.Conv2D(12, 1, strides=2, name="projection")(hidden)
    hidden = layers.Add(name="second_sum")([projected, block(block(hidden, 10, "a", strides=2), 12, "b")])
    gate = layers.Reshape((1, 1, 12))(layers.GlobalAveragePooling2D()(hidden))
    gate = layers.Conv2D(12, 1, name="gate")(layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate))
    gate = layers.ReLU(6.0, name="hard_sigmoid")(gate + 3.0) * (1 / 6)
    hidden = layers.Multiply(name="gated")([hidden, gate])
    hidden = layers.Concatenate(name="both")([block(hidden, 6, "left"), block(hidden, 10, "right")])
    hidden = layers.SeparableConv2D(12, 3, activation="relu", name="separable")(hidden)
    hidden = layers.Conv2D(14, 1, name="last")(ops.relu(hidden))
    model = keras.Model(inputs, layers.BatchNormalization(name="last_bn")(hidden))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    path = tmp_path_factory.mktemp("residual") / "residual.keras"
    model.save(path)
    return networks.build(Config(backbone=str(path), head="mlp(units=8)", head_init="he_normal"), 3, "single_label")


def _operated(network: Network, name: str, arguments: dict) -> Network:
    """The network after a surgery; skips what the network does not bear, and says so in words."""
    try:
        return getattr(surgery, name)(network, **arguments)
    except ValueError as error:
        assert "finds no" in str(error) or "of its own" in str(error) or "cannot be cut" in str(error)
        pytest.skip(str(error))


def _check(network: Network, name: str, arguments: dict, distance: float | None) -> None:
    before = [np.asarray(weight).tobytes() for weight in network.model.weights]
    found = _operated(network, name, arguments)
    assert isinstance(found, Network)
    assert [np.asarray(weight).tobytes() for weight in network.model.weights] == before
    assert found.model.output.shape == network.model.output.shape and found.model.output.dtype == "float32"
    # All that is said of the network is right.
    feeding = found.model.get_layer(layer_names.FEATURES).input
    inner = keras.Model(found.model.inputs[0], feeding)
    assert found.backbone == tuple(operation.name for operation in inner.operations)
    assert found.cuts == backbones.find_cut_points(inner)
    assert found.depths == (feeding._keras_history.operation.name,) == found.backbone[-1:]
    plain = {"model": None, "backbone": (), "cuts": (), "depths": ()}
    assert found._replace(**plain) == network._replace(**plain)
    if name != "truncate":
        assert len(blocks.starts(found)) >= len(blocks.starts(network))
    if name not in ("prune", "fold_batchnorm"):
        _keeps_weights(found.model, network.model, network.backbone)
    images = _images(network.size)
    expected = np.asarray(network.model(images, training=False))
    got = np.asarray(found.model(images, training=False))
    if distance is None:
        # Of random weights some networks give hardly more than 0, on which a gate has no effect.
        assert np.isfinite(got).all() and (np.abs(expected).max() < 1e-6 or not np.array_equal(got, expected))
    else:
        allowed = distance * np.abs(expected).max()
        if np.abs(got - expected).max() > allowed:
            # The deepest network of random weights makes more of the last bit of its pixels than any surgery.
            nearly = np.asarray(network.model(images * np.float32(1 + 1e-7), training=False))
            allowed = max(allowed, np.abs(nearly - expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)


def _keeps_weights(ours: keras.Model, theirs: keras.Model, names: tuple[str, ...]) -> None:
    """Layers of the backbone that both have are the same to the bit."""
    given = {layer.name: layer for layer in theirs.layers if layer.name in names}
    common = [layer for layer in ours.layers if layer.name in given and given[layer.name].weights]
    assert common
    for layer in common:
        for one, other in zip(layer.get_weights(), given[layer.name].get_weights(), strict=True):
            assert one.tobytes() == other.tobytes(), layer.name


@pytest.mark.large
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("name", "arguments", "distance"), EACH)
def test_what_is_named_makes_a_network_of_a_network(backbone, name, arguments, distance):
    if backbone.startswith(("Inception", "Xception")):
        pytest.skip(f"{backbone} takes no images of 64 pixels")
    _check(_network(backbone), name, arguments, distance)


@pytest.mark.parametrize(("name", "arguments", "distance"), EACH)
def test_so_it_does_of_one_with_sums_gates_and_concatenations(residual, tmp_path, name, arguments, distance):
    _check(residual, name, arguments, distance)
    found = _operated(residual, name, arguments)
    # Keras alone reads it again.
    found.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = np.asarray(found.model(_images(32), training=False))
    np.testing.assert_array_equal(np.asarray(again(_images(32), training=False)), expected)


@pytest.mark.parametrize("name", NAMED)
def test_phases_train_what_they_name_after_it(residual, name):
    network = getattr(surgery, name)(residual, **NAMED[name][0][0])
    model, labels = network.model, np.arange(2, dtype=np.int32)
    for phase in (strategies.head(), strategies.top(unfreeze=0.3), strategies.full()):
        freezing.apply(network, phase)
        trained = {weight.path for weight in model.trainable_weights}
        before = {weight.path: np.asarray(weight).tobytes() for weight in model.weights}
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        model.train_on_batch(_images(32), labels)
        moved = {weight.path for weight in model.weights if np.asarray(weight).tobytes() != before[weight.path]}
        assert moved <= trained
        assert "logits/kernel" in moved
        assert any(path.split("/")[0] in network.backbone for path in moved) == phase.trains_backbone
    freezing.release(network)


@pytest.mark.parametrize("name", ["dropout", "stochastic_depth"])
def test_what_draws_in_training_draws_in_unfrozen_blocks_only(residual, name):
    network = getattr(surgery, name)(residual, 0.5)
    features = keras.Model(network.model.inputs[0], network.model.get_layer(layer_names.FEATURES).output)
    calm = np.asarray(features(_images(32), training=False))
    freezing.apply(network, strategies.head())
    np.testing.assert_array_equal(np.asarray(features(_images(32), training=True)), calm)
    freezing.apply(network, strategies.full())
    assert not np.array_equal(np.asarray(features(_images(32), training=True)), calm)
    freezing.release(network)
