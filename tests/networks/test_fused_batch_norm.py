"""The fused kernel against Keras's own BatchNormalization: outputs, gradients, statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.networks import fused_batch_norm


def _layer(images, **options):
    layer = keras.layers.BatchNormalization(**options)
    layer.build(images.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return layer


def _step(layer, images):
    with tf.GradientTape() as tape:
        inputs = tf.Variable(images)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs * (np.arange(images.size, dtype=np.float32).reshape(images.shape) % 7))
    gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
    return [np.asarray(value) for value in (outputs, *gradients, layer.moving_mean, layer.moving_variance)]


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_outputs_gradients_and_statistics_are_keras_own(momentum):
    images = np.random.default_rng(0).normal(2, 3, (4, 5, 6, 3)).astype(np.float32)
    plain, quick = _layer(images, momentum=momentum), _layer(images, momentum=momentum)
    vars(quick)["call"] = fused_batch_norm.make_fused_call(quick)
    for ours, theirs in zip(_step(quick, images), _step(plain, images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_its_statistics_in_float32(dtype):
    """As exact as Keras's own, which computes in float32 and rounds the outputs: one rounding of half precision."""
    rng = np.random.default_rng(0)
    images = np.asarray(tf.cast(rng.normal(2, 3, (16, 8, 8, 3)), dtype.removeprefix("mixed_")))
    plain, quick = _layer(images, dtype=dtype), _layer(images, dtype=dtype)
    vars(quick)["call"] = fused_batch_norm.make_fused_call(quick)
    upstream = tf.constant(rng.normal(size=images.shape).astype(np.float32))
    found = []
    for layer in (quick, plain):
        inputs = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
        gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        assert outputs.dtype.name == dtype.removeprefix("mixed_")
        assert layer.moving_mean.dtype == "float32"
        found.append([outputs, *gradients, layer.moving_mean, layer.moving_variance])
    step = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}[dtype]
    for ours, theirs in zip(*([np.asarray(tf.cast(v, tf.float32)) for v in row] for row in found), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2 * step, atol=2 * step * np.abs(theirs).max())


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"axis": 1}])
def test_everything_else_is_left_to_keras(options):
    images = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    plain, quick = _layer(images, **options), _layer(images, **options)
    vars(quick)["call"] = fused_batch_norm.make_fused_call(quick)
    np.testing.assert_array_equal(quick(images, training=False), plain(images, training=False))
    np.testing.assert_allclose(quick(images, training=True), plain(images, training=True), rtol=1e-4, atol=1e-4)
    plain.trainable = quick.trainable = False
    np.testing.assert_array_equal(quick(images, training=True), plain(images, training=True))


def test_vectors_are_left_to_keras():
    vectors = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    layer = _layer(vectors)
    vars(layer)["call"] = fused_batch_norm.make_fused_call(layer)
    assert layer(vectors, training=True).shape == (8, 3)
