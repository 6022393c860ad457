"""What each phase trains, and that what is frozen does not move by a bit under a real fit."""

import keras
import numpy as np
import pytest
from conftest import EVERY_BACKBONE

from kerasft import model, phases, planning
from kerasft.config import Config
from kerasft.errors import UserError

SMALL = ["MobileNet(alpha=0.25)", "EfficientNetB0"]
SIZE = 76  # InceptionV3 takes no less than 75
FROZEN = ["MobileNet(alpha=0.25)"]
FROZEN += [pytest.param(name, marks=pytest.mark.large) for name in ("EfficientNetB0", "ResNet50", "DenseNet121")]


def _network(backbone="MobileNet(alpha=0.25)", **settings):
    return model.build(
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
    phases.apply(network, warm)  # gives the random network statistics under which a signal comes through
    network.model.compile(keras.optimizers.SGD(1e-3), loss)
    network.model.fit(images, labels, batch_size=4, epochs=6, verbose=0)
    for phase in planned:
        phases.apply(network, phase)
        names = {layer.name for layer in network.model.layers if layer.trainable_weights}
        before = {layer.name: _bytes(layer) for layer in network.model.layers}
        network.model.compile(keras.optimizers.SGD(1e-3), loss)
        network.model.fit(images, labels, batch_size=4, verbose=0)
        for layer in network.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                assert layer.name not in names
            if layer.name not in names:
                assert _bytes(layer) == before[layer.name], f"{phase.kind} moved {layer.name}"
        moved = {layer.name for layer in network.model.layers if _bytes(layer) != before[layer.name]}
        assert "logits" in moved
        assert len(moved) > {"head": 0, "top": 1, "all": 10}[phase.kind]


def test_a_frozen_part_is_deterministic_in_training_mode():
    """Stochastic depth of a frozen EfficientNet is off, and on again once it is unfrozen or released."""
    network = _network("EfficientNetB0")
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    features = network.part("standardise")
    rates = {layer.name: layer.rate for layer in network.model.layers if isinstance(layer, keras.layers.Dropout)}
    head, top, everything = _plan(network, "head(epochs=1) | top(unfreeze=0.2) | all")
    phases.apply(network, head)
    np.testing.assert_array_equal(features(images, training=True), features(images, training=False))
    phases.apply(network, top)
    live = [layer.rate > 0 for layer in network.model.layers if isinstance(layer, keras.layers.Dropout)]
    assert any(live)
    assert not all(live)
    for undo in (lambda: phases.apply(network, everything), lambda: phases.release(network)):
        phases.apply(network, head)
        undo()
        assert rates == {
            layer.name: layer.rate for layer in network.model.layers if isinstance(layer, keras.layers.Dropout)
        }


def test_batch_norm_trains_when_asked_and_follows_faster():
    network = _network()
    (phase,) = _plan(network, "all(epochs=1, batch_norm='train')")
    phases.apply(network, phase)
    norms = [layer for layer in network.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [_bytes(layer) for layer in norms]
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, verbose=0)
    assert all(_bytes(layer) != old for layer, old in zip(norms, before))
    assert {layer.momentum for layer in norms} == {phases.BN_MOMENTUM}
    phases.release(network)
    assert {layer.momentum for layer in norms} == {0.99}


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_batch_norm_is_held_and_the_rest_moves(backbone):
    """Every constructor with the new head, one step over all layers: no BatchNormalization moves by a bit."""
    network = _network(backbone, image_size=SIZE, head_init="he_normal")
    (phase,) = _plan(network, "all(epochs=1)")
    phases.apply(network, phase)
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
    phases.apply(network, phase)
    before = _bytes(network.model.get_layer("head_norm_0"))
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)), np.arange(8) % 3, verbose=0)
    _, beta, _, variance = zip(_bytes(network.model.get_layer("head_norm_0")), before)
    assert beta[0] != beta[1]
    assert variance[0] != variance[1]


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_fractions_and_names_unfreeze_the_end(backbone):
    network = _network(backbone, image_size=SIZE)
    starts = phases.blocks(network)
    assert len(starts) == len(set(starts)) > 5
    everything = None
    counts = []
    for fraction in (0.001, 0.25, 0.5, 1.0):
        trainable, frozen = phases.apply(network, phases.top(unfreeze=fraction))
        everything = everything or trainable + frozen
        assert trainable + frozen == everything == network.model.count_params()
        counts.append(trainable)
    assert counts == sorted(set(counts))
    assert phases.apply(network, phases.all())[0] == counts[-1]
    assert phases.apply(network, phases.head())[0] == sum(
        np.prod(w.shape) for w in network.model.get_layer("logits").weights
    )
    name = next(
        layer.name
        for layer in reversed(network.model.layers)
        if layer.name in network.backbone and phases._learns(layer)
    )
    phases.apply(network, phases.top(unfreeze=name))
    trained = [layer.name for layer in network.model.layers if layer.trainable_weights]
    assert trained[0] == name
    assert trained[-1] == "logits"


def test_half_of_mobilenet_is_half_of_its_blocks():
    network = _network()
    starts = phases.blocks(network)
    assert len(starts) == 27  # the stem, and 13 depthwise and 13 pointwise convolutions
    assert phases.first_layer(network, phases.top(unfreeze=0.5)) == starts[-14]
    assert phases.first_layer(network, phases.all()) == network.backbone[0]


def test_a_bare_name_is_a_layer():
    network = _network()
    (phase,) = _plan(network, "top(unfreeze=conv_pw_6_relu)")
    assert phases.first_layer(network, phase) == "conv_pw_6_relu"


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
        ("al(epochs=2)", r"must be one of all, head, top \(did you mean 'all'\?\)"),
        ("all(epoch=2)", r"did you mean 'epochs'"),
        ("all(epochs=0)", "epochs must be a whole number of at least 1"),
        ("all(epochs=2.5)", "epochs must be a whole number"),
        ("all(image_size=16)", "image_size must be a whole number of at least 32"),
        ("top(image_size=96.0)", "image_size must be a whole number of at least 32"),
        ("all(lr=-1)", "lr must be a number"),
        ("all(batch_norm='trian')", "did you mean 'train'"),
        ("none", "at least one of all, head, top"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _plan(_network(), text)


def test_the_solved_head_stands_first():
    network = _network(head_init="probe")
    planned = _plan(network, "all(epochs=2)", head_init="probe")
    assert [(phase.kind, phase.epochs) for phase in planned] == [("head", 0), ("all", 2)]
    assert [phase.kind for phase in _plan(network, "head | all", head_init="probe")] == ["head", "all"]
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
    assert [phase.kind for phase in scratch] == ["all"]
    pretrained = _network()._replace(pretrained=True, head_init="probe")
    for examples in (20, 1000, 100000):
        planned = _plan(pretrained, "auto", examples=examples)
        assert [phase.kind for phase in planned] == ["head", "all", "all"]
        assert planned[0].epochs == 0
        assert planned[1].epochs >= 1
