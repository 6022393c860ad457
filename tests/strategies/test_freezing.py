"""What each phase trains, and that what is frozen does not move by a bit under a real fit."""

import keras
import numpy as np
import pytest
from conftest import EVERY_BACKBONE

from kerasft import strategies
from kerasft.networks import blocks, heads
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.strategies import freezing, planning
from kerasft.strategies.phase import Phase

SMALL = ["MobileNet(alpha=0.25)", "EfficientNetB0"]
SIZE = 76  # InceptionV3 takes no less than 75
FROZEN = ["MobileNet(alpha=0.25)"]
FROZEN += [pytest.param(name, marks=pytest.mark.large) for name in ("EfficientNetB0", "ResNet50", "DenseNet121")]


def _network(backbone="MobileNet(alpha=0.25)", **settings):
    return networks.build(
        Config(**{"backbone": backbone, "weights": "none", "image_size": 32, **settings}), 3, "single_label"
    )


def _plan(network, text, examples=100, **settings):
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", phases=text, **settings)
    return planning.plan(config, network, examples)[0]


def _bytes(layer):
    return [np.asarray(weight).tobytes() for weight in layer.weights]


@pytest.mark.parametrize("backbone", FROZEN)
def test_frozen_means_frozen(backbone):
    """BatchNorm statistics and every frozen weight are bit-identical before and after a real fit of each kind."""
    network = _network(backbone)
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 255, (8, 32, 32, 3)).astype(np.float32), np.arange(8) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    warm, *planned = _plan(
        network, "all(batch_norm='train') | head(epochs=1) | top(unfreeze=0.3, epochs=1) | all(epochs=1)"
    )
    freezing.apply(network, warm)  # gives the random network statistics under which a signal comes through
    network.model.compile(keras.optimizers.SGD(1e-3), loss)
    network.model.fit(images, labels, batch_size=4, epochs=6, verbose=0)
    for phase in planned:
        freezing.apply(network, phase)
        names = {layer.name for layer in network.model.layers if layer.trainable_weights}
        before = {layer.name: _bytes(layer) for layer in network.model.layers}
        network.model.compile(keras.optimizers.SGD(1e-3), loss)
        network.model.fit(images, labels, batch_size=4, verbose=0)
        for layer in network.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                assert layer.name not in names
            if layer.name not in names:
                assert _bytes(layer) == before[layer.name], f"{phase.strategy} moved {layer.name}"
        moved = {layer.name for layer in network.model.layers if _bytes(layer) != before[layer.name]}
        assert "logits" in moved
        assert len(moved) > {"head": 0, "top": 1, "all": 10}[phase.strategy]


def test_a_frozen_part_is_deterministic_in_training_mode():
    """Stochastic depth of a frozen EfficientNet is off, and on again once it is unfrozen or released."""
    network = _network("EfficientNetB0")
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    head, top, everything = _plan(network, "head(epochs=1) | top(unfreeze=0.2) | all")

    def live():
        # So many that a rate of one in a hundred is seen for sure.
        ones = np.ones((4096, 1, 1, 8), np.float32)
        drops = [layer for layer in network.model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate]
        return [bool((np.asarray(layer(ones, training=True)) == 0).any()) for layer in drops]

    usual = live()
    freezing.apply(network, head)
    features = network.model_before("standardise")
    np.testing.assert_array_equal(features(images, training=True), features(images, training=False))
    assert not any(live()[: len(network.backbone)])
    freezing.apply(network, top)
    assert any(live())
    assert not all(live())
    for undo in (lambda: freezing.apply(network, everything), lambda: freezing.release(network)):
        freezing.apply(network, head)
        undo()
        assert live() == usual


class Survival(keras.layers.Layer):
    """Stochastic depth by whole images, in a layer of its own around another (Huang et al. 2016)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), seed=1)

    def call(self, inputs):
        return inputs + self.inner(inputs)


DRAWING = {
    "Dropout": lambda: keras.layers.Dropout(0.5),
    "SpatialDropout2D": lambda: keras.layers.SpatialDropout2D(0.5),
    "AlphaDropout": lambda: keras.layers.AlphaDropout(0.5),
    "GaussianDropout": lambda: keras.layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: keras.layers.GaussianNoise(1.0),
    "MultiHeadAttention": lambda: Attention(),
    "SpectralNormalization": lambda: keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 1)),
    "BatchNormalization": lambda: keras.layers.BatchNormalization(momentum=0.1),
    "stochastic depth": lambda: Survival(),
    "nested": lambda: keras.Sequential([keras.layers.Conv2D(4, 1), keras.layers.GaussianNoise(1.0)]),
    "RandomFlip": lambda: keras.layers.RandomFlip(),
    "SpatialDropout1D": lambda: keras.layers.TimeDistributed(keras.layers.SpatialDropout1D(0.5)),
    "LSTM": lambda: keras.layers.TimeDistributed(
        keras.layers.Bidirectional(keras.layers.LSTM(2, dropout=0.5, return_sequences=True))
    ),
}


class Attention(keras.layers.Layer):
    """Attention of an image's places to each other, with dropout inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.heads = keras.layers.MultiHeadAttention(1, 4, dropout=0.5)

    def call(self, inputs, training=None):
        return self.heads(inputs, inputs, training=training)


@pytest.fixture
def drawing(request):
    """A network whose backbone has a layer of this kind, and batches to fit."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(4, 3, name="conv_1")(keras.layers.Rescaling(1 / 255)(inputs))
    hidden = keras.layers.ReLU(name="cut")(DRAWING[request.param]()(hidden))
    hidden = keras.layers.Conv2D(4, 3, name="conv_2")(hidden)
    backbone = keras.Model(inputs, hidden)
    names = tuple(operation.name for operation in backbone.operations)
    logits = heads.build("linear", "he_normal", hidden, 3)
    built = keras.Model(inputs, logits)
    return networks.Network(built, "drawing", "single_label", 8, True, "he_normal", names, ("cut",))


KINDS = [pytest.param(kind, marks=pytest.mark.large) if kind == "LSTM" else kind for kind in DRAWING]


@pytest.mark.parametrize("drawing", KINDS, indirect=True)
@pytest.mark.parametrize("phase", [strategies.head(epochs=1), strategies.top("conv_2", batch_norm="train")])
def test_whatever_draws_or_adapts_is_frozen_too(drawing, phase):
    """Frozen features are the same bit for bit in every call in training mode, and after a fit, as in inference mode."""
    images = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype(np.float32)
    place = keras.Model(drawing.model.inputs[0], drawing.model.get_layer("cut").output)
    usual = np.asarray(place(images, training=False))
    freezing.apply(drawing, phase)
    kept = [np.asarray(weight) for weight in place.weights]
    drawing.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    head = _bytes(drawing.model.get_layer("logits"))
    for _ in range(2):
        np.testing.assert_array_equal(place(images, training=True), usual)
        drawing.model.fit(images, np.arange(8) % 3, verbose=0)
    assert _bytes(drawing.model.get_layer("logits")) != head
    for ours, before in zip(place.weights, kept):
        np.testing.assert_array_equal(ours, before)
    freezing.release(drawing)
    assert not np.array_equal(place(images, training=True), usual) or not np.array_equal(
        place(images, training=True), usual
    )


@pytest.mark.parametrize(
    "text",
    [
        "head(epochs=0)",
        "head(epochs=0, lr=0.5)",
        "head",
        "head(epochs=3, lr=1.23456789e-3, views=4, augment=none)",
        "top(unfreeze=block_3, epochs=2, loss=focal(gamma=2.0), optimizer=sgd(momentum=0.9), augment=flip)",
        "top(0.25, batch_norm='train', views=0)",
        "all(epochs=7, lr=2e-05, schedule=step(at=(0.5, 0.75)), augment=crop(area=(0.35, 1)) | flip, image_size=64)",
        "all(conditional=True, batch_norm=train, optimizer=adamw(weight_decay=None, beta_1=0.5))",
    ],
)
def test_a_phase_is_read_back_from_what_it_says(text):
    phase = planning.parse(text)
    assert planning.parse(str(phase)) == phase
    for given in ("flip", "focal", "sgd(momentum=0.9)", "step(at=(0.5, 0.75))", "crop(area=(0.35, 1)) | flip"):
        assert (given in text) <= (given in str(phase))


def test_a_planned_phase_names_all_that_runs():
    (_, phase) = _plan(_network(head_init="probe"), "all(epochs=2)", optimizer="lion", augment="flip | rotate(3)")
    expected = "all(epochs=2, lr=0.0001, optimizer=lion, schedule=cosine, loss=auto, augment=flip | rotate(3))"
    assert str(phase) == expected
    assert planning.parse(str(phase)) == phase


def test_batch_norm_trains_when_asked_and_follows_faster():
    network = _network()
    (phase,) = _plan(network, "all(epochs=1, batch_norm='train')")
    freezing.apply(network, phase)
    norms = [layer for layer in network.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [_bytes(layer) for layer in norms]
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, verbose=0)
    assert all(_bytes(layer) != old for layer, old in zip(norms, before))
    assert {layer.momentum for layer in norms} == {freezing.BATCH_NORM_MOMENTUM}
    freezing.release(network)
    assert {layer.momentum for layer in norms} == {0.99}


@pytest.mark.parametrize(("strategy", "kinds"), [("bias", {"beta"}), ("norm", {"beta", "gamma"})])
def test_statistics_follow_where_asked_and_what_stays_of_a_layer_stays_to_the_bit(strategy, kinds):
    network = _network()
    (phase,) = _plan(network, f"{strategy}(epochs=1, batch_norm='train')")
    freezing.apply(network, phase)
    before = {weight.path: np.asarray(weight).tobytes() for weight in network.model.weights}
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, verbose=0)
    moved = {weight.path for weight in network.model.weights if np.asarray(weight).tobytes() != before[weight.path]}
    norms = {path for path in before if "_bn/" in path}
    expected = {path for path in norms if path.split("/")[-1] in kinds | {"moving_mean", "moving_variance"}}
    assert moved - expected == {"logits/kernel", "logits/bias"}
    assert {path.split("/")[-1] for path in moved & norms} == kinds | {"moving_mean", "moving_variance"}
    # A later phase trains everything again.
    later = strategies.full(batch_norm="train")
    assert freezing.apply(network, later) == freezing.apply(_network(), later)


def test_a_layer_that_changes_its_frozen_kernel_by_itself_is_kept_from_it():
    """SpectralNormalization assigns its kernel in training mode, whoever trains."""
    inputs = keras.Input((8, 8, 3))
    wrapped = keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 1, name="inner"), name="wrapped")
    hidden = keras.layers.Conv2D(4, 3, name="conv_2")(wrapped(inputs))
    names = ("wrapped", "conv_2")
    built = keras.Model(inputs, heads.build("linear", "he_normal", hidden, 3))
    network = networks.Network(built, "spectral", "single_label", 8, True, "he_normal", names, ())
    freezing.apply(network, strategies.bias(epochs=1))
    kernels = [weight for weight in wrapped.weights if "bias" not in weight.path]
    before = [np.asarray(weight).tobytes() for weight in kernels]
    bias = _bytes(wrapped)
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)), np.arange(8) % 3, verbose=0)
    assert [np.asarray(weight).tobytes() for weight in kernels] == before
    assert _bytes(wrapped) != bias


def test_a_network_without_normalisation_has_nothing_for_it_to_train(flat):
    network = networks.build(Config(backbone=flat), 3, "single_label")
    with pytest.raises(UserError, match=r"norm\(\) finds nothing to train in .*: it trains scales and offsets"):
        planning.plan(Config(backbone=flat, phases="norm"), network, 100)


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_batch_norm_is_held_and_the_rest_moves(backbone):
    """Every constructor with the new head, one step over all layers: no BatchNormalization moves by a bit."""
    network = _network(backbone, image_size=SIZE, head_init="he_normal")
    (phase,) = _plan(network, "all(epochs=1)")
    freezing.apply(network, phase)
    norms = [layer for layer in network.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before, kernel = [_bytes(layer) for layer in norms], _bytes(network.model.get_layer("logits"))
    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    network.model.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(images, np.array([0, 2]), batch_size=2, verbose=0)
    assert [_bytes(layer) for layer in norms] == before
    assert not any(layer.trainable_weights for layer in norms)
    assert _bytes(network.model.get_layer("logits")) != kernel


def test_batch_norm_of_the_head_trains_while_the_backbones_is_held():
    network = _network(head="mlp(normalisation=batch)", head_init="he_normal")
    (phase,) = _plan(network, "head(epochs=1)")
    freezing.apply(network, phase)
    before = _bytes(network.model.get_layer("head_norm_0"))
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, verbose=0)
    _, beta, _, variance = zip(_bytes(network.model.get_layer("head_norm_0")), before)
    assert beta[0] != beta[1]
    assert variance[0] != variance[1]


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_fractions_and_names_unfreeze_the_end(backbone):
    network = _network(backbone, image_size=SIZE)
    starts = blocks.starts(network)
    assert len(starts) == len(set(starts)) > 5
    everything = None
    counts = []
    for fraction in (0.001, 0.25, 0.5, 1.0):
        trainable, frozen = freezing.apply(network, strategies.top(unfreeze=fraction))
        everything = everything or trainable + frozen
        assert trainable + frozen == everything == network.model.count_params()
        counts.append(trainable)
    assert counts == sorted(set(counts))
    assert freezing.apply(network, strategies.full())[0] == counts[-1]
    assert freezing.apply(network, strategies.head())[0] == sum(
        np.prod(w.shape) for w in network.model.get_layer("logits").weights
    )
    name = next(
        layer.name
        for layer in reversed(network.model.layers)
        if layer.name in network.backbone and blocks._learns(layer)
    )
    freezing.apply(network, strategies.top(unfreeze=name))
    trained = [layer.name for layer in network.model.layers if layer.trainable_weights]
    assert trained[0] == name
    assert trained[-1] == "logits"


def test_half_of_mobilenet_is_half_of_its_blocks():
    network = _network()
    starts = blocks.starts(network)
    assert len(starts) == 27  # the stem, and 13 depthwise and 13 pointwise convolutions
    assert freezing.first_layer(network, strategies.top(unfreeze=0.5)) == starts[-14]
    assert freezing.first_layer(network, strategies.full()) == network.backbone[0]


def test_a_block_of_a_foreign_phase_must_be_a_name():
    phase = Phase(strategy="mine", unfreeze=(0.5,), epochs=1, lr=1e-3)
    with pytest.raises(UserError, match=r"--phases: a block of .* is named by its first layer .* Received: 0\.5"):
        freezing.unfrozen(_network(), phase)


def test_a_bare_name_is_a_layer():
    network = _network()
    (phase,) = _plan(network, "top(unfreeze=conv_pw_6_relu)")
    assert freezing.first_layer(network, phase) == "conv_pw_6_relu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "top(unfreeze='conv6')",
            r"top\(unfreeze=\) must be a fraction in \(0, 1\] or a layer of MobileNet.*\. Received: 'conv6'",
        ),
        ("top(unfreeze=conv_pw_6_rel)", r"did you mean 'conv_pw_6_relu'"),
        ("top(unfreeze=0)", "must be a fraction"),
        ("top(unfreeze=1.5)", "must be a fraction"),
        ("top(unfreeze=True)", "must be a fraction"),
        ("top(unfreeze=None)", r"top\(\) unfreeze must be a fraction in \(0, 1\] or the name of a layer"),
        ("top(unfreeze=(0.5,))", r"top\(\) unfreeze must be a fraction in \(0, 1\] or the name of a layer"),
        ("surgical(layers=())", r"surgical\(\) layers must be names of layers joined by \|, one at least"),
        ("al(epochs=2)", r"must be one of adapter, all, .*, top \(did you mean 'all'\?\)"),
        ("all(epoch=2)", r"did you mean 'epochs'"),
        ("all(epochs=0)", "epochs must be a whole number of at least 1"),
        ("all(epochs=2.5)", "epochs must be a whole number"),
        ("all(image_size=16)", "image_size must be a whole number of at least 32"),
        ("top(image_size=96.0)", "image_size must be a whole number of at least 32"),
        ("all(lr=-1)", "lr must be a number"),
        ("all(batch_norm='trian')", "did you mean 'train'"),
        ("none", "at least one of adapter, all, bias, gradual, head, "),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _plan(_network(), text)


def test_the_solved_head_stands_first():
    network = _network(head_init="probe")
    planned = _plan(network, "all(epochs=2)", head_init="probe")
    assert [(phase.strategy, phase.epochs) for phase in planned] == [("head", 0), ("all", 2)]
    assert [phase.strategy for phase in _plan(network, "head | all", head_init="probe")] == ["head", "all"]
    assert [phase.epochs for phase in _plan(_network(), "head | all(epochs=1)")] == [5, 1]


def test_phases_override_the_flags():
    network = _network()
    first, second = _plan(
        network, "head(optimizer=sgd(momentum=0.9), augment=flip | rotate(3)) | all(schedule=constant)"
    )
    assert (str(first.optimizer), str(second.optimizer)) == ("sgd(momentum=0.9)", "adamw")
    assert [str(spec) for spec in first.augment] == ["flip", "rotate(3)"]
    assert (str(first.schedule), str(second.schedule)) == ("cosine", "constant")
    assert [str(spec) for spec in second.augment] == ["auto"]
    assert _plan(network, "all(augment=none)")[0].augment == ()


def test_auto_needs_pretrained_weights_for_a_probe():
    scratch = _plan(_network(), "auto")
    assert [phase.strategy for phase in scratch] == ["all"]
    pretrained = _network()._replace(pretrained=True, head_init="probe")
    for examples in (20, 1000, 100000):
        planned = _plan(pretrained, "auto", examples=examples)
        assert [phase.strategy for phase in planned] == ["head", "all", "all"]
        assert planned[0].epochs == 0
        assert planned[1].epochs >= 1
