"""BatchNormalization in training as one fused kernel: Keras 3 spells it out in a dozen passes over the activations."""

from collections.abc import Callable

import keras
import tensorflow as tf

_DTYPES = (tf.float32, tf.bfloat16, tf.float16)


def fused(layer: keras.layers.BatchNormalization) -> Callable:
    """A replacement of `layer.call` that gives the same outputs, gradients and moving statistics.

    Uses TensorFlow's `FusedBatchNormV3` (forward and backward) for [N, H, W, C] in training, in float32 or half
    precision with statistics in float32, and Keras's own call for everything else.
    """
    own = type(layer).call
    fits = layer.axis in (-1, 3) and layer.scale and layer.center and not (layer.renorm or layer.synchronized)

    def call(inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not (training and fits and layer.trainable and mask is None):
            return own(layer, inputs, training=training, mask=mask)
        if inputs.dtype not in _DTYPES or inputs.shape.rank != 4:
            return own(layer, inputs, training=training, mask=mask)
        none = tf.constant([], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(layer.gamma),
            offset=tf.convert_to_tensor(layer.beta),
            mean=none,
            variance=none,
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The kernel gives the unbiased variance; Keras 3 keeps the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        keep = layer.momentum
        layer.moving_mean.assign(layer.moving_mean * keep + mean * (1 - keep))
        layer.moving_variance.assign(layer.moving_variance * keep + variance * (count - 1) / count * (1 - keep))
        return outputs

    return call
