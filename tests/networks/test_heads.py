"""Heads, their first weights, and the solved probe against plain references."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.networks import activations, heads
from kerasft.probes import head_statistics
from kerasft.settings.errors import UserError


def _model(head="linear", head_init="zeros", width=6, outputs=4):
    inputs = keras.Input((4, 4, width) if "pooling" in head else (width,))
    return keras.Model(inputs, heads.build(head, head_init, inputs, outputs))


def test_linear_is_one_dense_layer_on_standardised_features():
    model = _model(head_init="glorot_uniform")
    features = np.random.default_rng(0).normal(5, 3, (50, 6)).astype(np.float32)
    head_statistics.set_statistics(model.get_layer("standardise"), features)
    kernel, bias = model.get_layer("logits").get_weights()
    expected = (features - features.mean(0)) / features.std(0) @ kernel + bias
    np.testing.assert_allclose(model(features), expected, atol=1e-4)


def test_mlp_has_the_layers_asked_for():
    model = _model("mlp(units=(8, 5), activation='relu', dropout=0.5)")
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 5, 4]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]
    assert model.get_layer("head_activation_0").activation is keras.activations.relu


def test_hidden_layers_start_as_the_initializer_says():
    model = _model("mlp(units=(6, 6), hidden_init=RandomUniform(minval=2, maxval=3))", "he_normal")
    kernels = [model.get_layer(name).get_weights()[0] for name in ("head_hidden_0", "head_hidden_1", "logits")]
    assert [bool(kernel.min() >= 2 and kernel.max() <= 3) for kernel in kernels] == [True, True, False]
    assert not np.array_equal(*kernels[:2])


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_pooling_is_the_first_layer_of_the_chain(head, pooling):
    inputs = keras.Input((3, 5, 6))
    model = keras.Model(inputs, heads.build(f"{head}(pooling={pooling})", "zeros", inputs, 4))
    names = [layer.name for layer in model.layers]
    assert names[1:3] == ["features", "standardise"]
    assert names[-1] == "logits"
    features = np.random.default_rng(0).normal(0, 1, (2, 3, 5, 6)).astype(np.float32)
    positive = np.maximum(features, 1e-7).astype(np.float64)
    expected = {
        "avg": features.mean((1, 2)),
        "max": features.max((1, 2)),
        "gem": (positive**3).mean((1, 2)) ** (1 / 3),
    }[pooling]
    np.testing.assert_allclose(model.layers[1](features), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_tokens_are_pooled_to_one_vector(pooling):
    inputs = keras.Input((5, 4))
    tokens = np.random.default_rng(0).normal(1, 2, (2, 5, 4)).astype(np.float32)
    pooled = keras.Model(inputs, heads.pool(inputs, pooling))(tokens)
    cubes = np.maximum(tokens, 1e-7).astype(np.float64) ** 3
    expected = {"avg": tokens.mean(1), "max": tokens.max(1), "gem": cubes.mean(1) ** (1 / 3)}[pooling]
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 3.0, 40.0])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 6e4])
def test_gem_has_finite_gradients_whatever_the_features(power, scale):
    layer = heads.GeM(power)
    features = keras.ops.cast(np.random.default_rng(0).normal(0, 0.3, (2, 4, 4, 3)) * scale, "float16")
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = layer(features)
        loss = tf.reduce_sum(pooled)
    assert pooled.dtype == tf.float32
    found = tape.gradient(loss, [features, layer.p.value])
    assert all(np.all(np.isfinite(value)) for value in (pooled, *found))


def test_gem_learns_its_exponent_and_is_kept_with_its_model(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, heads.GeM(name="features")(inputs))
    features = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 3)).astype(np.float32)
    model.compile(keras.optimizers.SGD(5.0), "mse", jit_compile=False)
    model.fit(features, features.max((1, 2)), epochs=20, verbose=0)  # towards the maximum
    assert float(model.layers[1].p) > 4
    model.save(tmp_path / "gem.keras")
    again = keras.models.load_model(tmp_path / "gem.keras")
    np.testing.assert_array_equal(again(features), model(features))
    model.layers[1].p.assign(1.0)
    model.fit(features, np.zeros((8, 3)), verbose=0)  # would need less than the average
    assert float(model.layers[1].p) == 1


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("'silu'", keras.activations.silu),
        ("gelu", keras.activations.gelu),
        ("LeakyReLU(negative_slope=0.1)", lambda x: keras.ops.leaky_relu(x, 0.1)),
        ("leaky_relu(negative_slope=0.1)", lambda x: keras.ops.leaky_relu(x, 0.1)),
        ("PReLU", keras.activations.relu),  # before it learns
    ],
)
def test_activations_are_functions_or_layers_of_keras(activation, expected):
    layer = _model(f"mlp(activation={activation}, units=(8,))").get_layer("head_activation_0")
    values = np.linspace(-3, 3, 16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_allclose(layer(values), expected(values), atol=1e-6)


@pytest.mark.parametrize("name", sorted(activations.FUNCTIONS))
def test_every_activation_of_keras_builds(name):
    assert _model(f"mlp(activation={name})").output.shape == (None, 4)


@pytest.mark.parametrize("name", ["batch", "layer"])
def test_normalisation_stands_before_the_activation(name):
    model = _model(f"mlp(units=(8, 5), normalisation={name})")
    kind = {"batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}[name]
    names = [layer.name for layer in model.layers]
    for index in range(2):
        assert isinstance(model.get_layer(f"head_norm_{index}"), kind)
        assert not model.get_layer(f"head_hidden_{index}").use_bias
        assert names.index(f"head_norm_{index}") == names.index(f"head_activation_{index}") - 1


@pytest.mark.parametrize("name", ["zeros", "prior", "probe", "he_normal", "GlorotUniform", "orthogonal(gain=0.5)"])
def test_every_initialisation_builds(name):
    kernel = _model(head_init=name).get_layer("logits").get_weights()[0]
    assert np.any(kernel) == (name not in heads.DATA_INITIALIZERS)


@pytest.mark.parametrize(
    ("head", "head_init", "message"),
    [
        ("linar", "zeros", r"--head: must be one of linear, mlp \(did you mean 'linear'\?\)"),
        ("linear(drop=1)", "zeros", r"--head: linear\(\) takes pooling, dropout \(did you mean 'dropout'\?\)"),
        ("linear(pooling=sum)", "zeros", r"pooling must be one of avg, gem, max"),
        ("mlp(pooling='average')", "zeros", r"pooling must be one of avg, gem, max \(did you mean 'avg'\?\)"),
        ("mlp(normalisation='bach')", "zeros", r"normalisation must be one of .*\(did you mean 'batch'\?\)"),
        ("mlp(activation='relo')", "zeros", r"--head: must be one of .*relu.*did you mean"),
        ("mlp(activation='os.system')", "zeros", r"--head: mlp\(\) activation must be a name"),
        ("mlp(activation=leaky_relu(slope=1))", "zeros", r"--head: leaky_relu\(\) takes negative_slope"),
        ("mlp(units=0)", "zeros", "--head: "),
        ("mlp(hidden_init=he_norma)", "zeros", r"--head: must be one of .*did you mean"),
        ("mlp(hidden_init='os.system')", "zeros", r"--head: must be one of .*Received: 'os.system'"),
        ("linear(dropout=1)", "zeros", r"dropout must be a number in \[0, 1\)"),
        ("linear(dropout=True)", "zeros", r"dropout must be a number in \[0, 1\)"),
        ("mlp(dropout=-0.1)", "zeros", r"dropout must be a number in \[0, 1\)"),
        ("mlp(dropout=abc)", "zeros", r"dropout must be a number in \[0, 1\)"),
        ("linear", "prob", r"--head_init: must be one of .*probe.*\(did you mean 'probe'\?\)"),
    ],
)
def test_mistakes_are_refused(head, head_init, message):
    with pytest.raises(UserError, match=message):
        _model(head, head_init)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_vector_cannot_be_pooled_otherwise(head):
    vector, places = keras.Input((6,)), keras.Input((3, 5, 6))
    for pooling in ("max", "gem"):
        with pytest.raises(
            UserError, match=rf"--head: {head}\(\) pooling={pooling} has nothing to pool, for the features"
        ):
            heads.build(f"{head}(pooling={pooling})", "zeros", vector, 4)
    heads.build(f"{head}(pooling=avg)", "zeros", vector, 4)
    # Of several depths, the last may be a vector.
    heads.build(f"{head}(pooling=max)", "zeros", [places, vector], 4)
