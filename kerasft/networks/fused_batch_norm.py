"""BatchNormalization in training as one fused kernel. Keras 3 makes about a dozen passes over the activations instead."""

from collections.abc import Callable

import keras
import tensorflow as tf

# The dtypes that the kernel takes.
_DTYPES = (tf.float32, tf.bfloat16, tf.float16)


def make_fused_call(layer: keras.layers.BatchNormalization) -> Callable:
    """Returns a replacement of `layer.call` with the same outputs, gradients and moving statistics.

    In training, inputs [N, H, W, C] go through TensorFlow's `FusedBatchNormV3` (forward and backward), in float32 or half
    precision with statistics in float32. All other inputs go through Keras's own call.
    """
    keras_call = type(layer).call
    is_supported = layer.axis in (-1, 3) and layer.scale and layer.center and not (layer.renorm or layer.synchronized)

    def call(inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not (training and is_supported and layer.trainable and mask is None):
            return keras_call(layer, inputs, training=training, mask=mask)
        if inputs.dtype not in _DTYPES or inputs.shape.rank != 4:
            return keras_call(layer, inputs, training=training, mask=mask)
        empty = tf.constant([], tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(layer.gamma),
            offset=tf.convert_to_tensor(layer.beta),
            mean=empty,
            variance=empty,
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance. Keras 3 averages the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        momentum = layer.momentum
        layer.moving_mean.assign(layer.moving_mean * momentum + mean * (1 - momentum))
        biased = variance * (count - 1) / count
        layer.moving_variance.assign(layer.moving_variance * momentum + biased * (1 - momentum))
        return outputs

    return call
