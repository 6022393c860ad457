"""The health of a phase: each illness provoked in a network of its own, and training that is the same with and without it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_runs import begun, easy, same, trained, vectors

from kerasft.evaluation import gradient_health
from kerasft.evaluation.gradient_health import HEAD
from kerasft.networks import blocks
from kerasft.networks import network as networks
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.settings.spec import Spec
from kerasft.strategies import Phase, quantised, variables
from kerasft.training import fitting, health_callback, health_probe, phase_health


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return easy(tmp_path_factory.mktemp("easy"))


def network(activation: str, bias: float = 0.0, depth: int = 10) -> Network:
    """A plain stack of convolutions, each a block of its own; the bias is that of the fifth."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(inputs)
    for index in range(depth):
        start = keras.initializers.Constant(bias if index == 4 else 0.0)
        given = {"activation": activation, "bias_initializer": start, "padding": "same"}
        hidden = layers.Conv2D(8, 3, strides=4 if index == 0 else 1, name=f"conv_{index}", **given)(hidden)
    names = tuple(f"conv_{index}" for index in range(depth))
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="features")(hidden))
    return Network(keras.Model(inputs, logits), "stack", "single_label", 32, True, "glorot_uniform", names, names)


def measure(network, data, folder):
    phase = Phase(strategy="all", unfreeze=1.0, epochs=1, lr=1e-3, augment=(), loss=Spec("cross_entropy"))
    run = begun(network, data, folder, phase, Config(batch_size=8))
    found = health_probe.make_probe(run)()
    return found, {verdict.kind: verdict for verdict in gradient_health.verdicts(found, found, 0)}


def test_a_healthy_stack_is_left_alone_and_its_gradient_is_that_of_keras(data, tmp_path):
    stack = network("relu")
    found, verdicts = measure(stack, data, tmp_path)
    assert verdicts == {}
    assert list(found["blocks"]) == [*(f"conv_{index}" for index in range(10)), HEAD]
    images = np.stack([np.asarray(data.val.images(np.arange(8)))])[0].astype(np.float32)
    with tf.GradientTape() as tape:
        probabilities = tf.nn.softmax(stack.model(images))
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(data.val.labels[:8], probabilities))
    kernel = stack.model.get_layer("conv_3").trainable_variables
    gradients = tape.gradient(loss, [one.value for one in kernel])
    expected = np.sqrt(sum(float((np.asarray(one) ** 2).sum()) for one in gradients))
    assert found["blocks"]["conv_3"]["gradient"] == pytest.approx(expected, rel=1e-3)
    hidden = keras.Model(stack.model.inputs[0], stack.model.get_layer("conv_3").output)(images)
    assert found["blocks"]["conv_3"]["scale"] == pytest.approx(float(np.sqrt(np.mean(np.square(hidden)))), rel=1e-4)
    assert found["blocks"]["conv_3"]["dead"] == pytest.approx(float((np.max(hidden, (0, 1, 2)) <= 0).mean()))


def test_the_gradient_of_a_deep_sigmoid_stack_vanishes(data, tmp_path):
    _, verdicts = measure(network("sigmoid"), data, tmp_path)
    assert set(verdicts) == {"vanishing"}
    assert "conv_0" in verdicts["vanishing"].blocks
    assert "conv_9" not in verdicts["vanishing"].blocks
    assert "gradual" in verdicts["vanishing"].remedy


def test_a_large_negative_bias_kills_the_units(data, tmp_path):
    found, verdicts = measure(network("relu", bias=-50.0), data, tmp_path)
    assert found["blocks"]["conv_4"]["dead"] == 1.0
    assert "conv_4" in verdicts["dead"].blocks and "conv_3" not in verdicts["dead"].blocks
    # Nothing comes through them.
    assert "conv_0" in verdicts["vanishing"].blocks
    assert "scale" not in verdicts


def test_a_rate_that_is_far_too_high_explodes_and_is_told(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 1)
    settings = {"optimizer": "sgd(momentum=0.9)", "augment": "none", "batch_size": 4}
    made = trained(data, tmp_path, tiny, **settings, phases="all(epochs=3, lr=10, schedule=constant)")
    kinds = {verdict["kind"]: verdict for verdict in made.records[0].health["verdicts"]}
    assert "the loss blew up" in kinds["exploding"]["detail"]
    assert "Lower lr" in kinds["exploding"]["remedy"]
    assert "01-all: exploding: the loss blew up" in capsys.readouterr().out


def test_measuring_changes_nothing_and_a_step_is_as_large_as_it_is(data, tiny, tmp_path, monkeypatch):
    settings = {
        "phases": "all(epochs=2, lr=1e-5, batch_norm='train')",
        "augment": "none",
        "optimizer": "sgd(clipvalue=1e9)",
    }
    seen = trained(data, tmp_path / "seen", tiny, **settings)
    last = seen.records[0].health["last"]["blocks"]
    assert all(row["update"] > 0 for row in last.values())
    assert max(row["update"] for row in last.values()) < 0.1
    monkeypatch.setattr(health_callback.health_probe, "make_probe", lambda run: None)
    unseen = trained(data, tmp_path / "unseen", tiny, **settings)
    same(seen.weights, unseen.weights)
    assert unseen.records[0].health == {}


def test_a_phase_in_8_bits_has_the_blocks_of_the_network_and_no_ranges():
    config = Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32)
    plain = networks.build(config, 2, "single_label")
    changed = variables.phase_network(plain, quantised())
    places = health_probe.block_of_each(changed)
    assert list(dict.fromkeys(places.values())) == blocks.starts(plain)
    assert places["conv_pw_3_relu"] == health_probe.block_of_each(plain)["conv_pw_3_relu"]
    measured = health_probe.weights_by_block(places, changed.model)
    assert not {one.name for group in measured.values() for one in group} & {"low", "high"}


def test_an_update_is_the_change_of_one_step(tmp_path):
    """Plain gradient descent at a constant rate: the change is the rate times the gradient."""
    run = vectors(tmp_path, batch_size=400, tensorboard=False)
    given = {
        name: Spec(value) for name, value in (("loss", "cross_entropy"), ("optimizer", "sgd"), ("schedule", "constant"))
    }
    run = replace(run, phase=replace(run.phase, **given))
    before = run.model.get_weights()
    fitting.fit(run)
    change = np.sqrt(sum(float(((new - old) ** 2).sum()) for new, old in zip(run.model.get_weights(), before)))
    size = np.sqrt(sum(float((new**2).sum()) for new in run.model.get_weights()))
    row = run.state.health[-1]["blocks"][HEAD]
    assert row["update"] == pytest.approx(change / size, rel=1e-3)


class Positions(keras.layers.Layer):
    """Adds a learned vector to each token, as the embeddings of a vision transformer do."""

    def __init__(self, count: int, channels: int, **given):
        super().__init__(**given)
        self.count, self.embedding = count, keras.layers.Embedding(count, channels)

    def call(self, tokens):
        return tokens + self.embedding(keras.ops.arange(self.count))


@pytest.mark.parametrize("sam", [0.0, 0.05])
def test_an_embedding_is_measured_and_trained(data, tmp_path, sam):
    """Its gradient has the rows that were looked up, and is no tensor."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Conv2D(8, 16, strides=16, name="patches")(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    hidden = Positions(4, 8, name="positions")(layers.Reshape((4, 8))(hidden))
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling1D(name="features")(hidden))
    names = ("patches", "positions")
    tokens = Network(keras.Model(inputs, logits), "tokens", "single_label", 32, True, "glorot_uniform", names, names)
    phase = Phase(strategy="all", unfreeze=1.0, epochs=1, lr=1e-2, augment=(), loss=Spec("cross_entropy"), sam=sam)
    phase = replace(phase, optimizer=Spec("adamw"), schedule=Spec("cosine"), agc=0.02)
    run = begun(tokens, data, tmp_path, phase, Config(batch_size=8, tensorboard=False))
    before = np.asarray(tokens.model.get_layer("positions").embedding.embeddings)
    assert health_probe.make_probe(run)()["blocks"]["positions"]["gradient"] > 0
    run.state.initial_score = run.validate()
    fitting.fit(run)
    assert not np.array_equal(before, tokens.model.get_layer("positions").embedding.embeddings)


def test_what_json_has_no_number_for_is_none():
    blocks = {"a": {"gradient": float("nan"), "weights": 1.0, "update": None, "scale": float("inf"), "dead": None}}
    found = phase_health.conclude([{"gradient": float("nan"), "blocks": blocks}], 0)
    assert found["last"]["blocks"]["a"]["gradient"] is None
    assert [verdict["kind"] for verdict in found["verdicts"]] == ["exploding", "scale"]
    assert phase_health.conclude([], 0) == {}


def test_a_head_on_cached_features_has_one_block(data, tiny, tmp_path):
    made = trained(data, tmp_path / "run", tiny, phases="head(epochs=1)", augment="none")
    found = made.records[0].health
    assert HEAD in found["last"]["blocks"]
    assert found["last"]["blocks"][HEAD]["gradient"] > 0
