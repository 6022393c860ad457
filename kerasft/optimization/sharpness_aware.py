"""Sharpness-aware minimisation (SAM): the gradient at the worst place nearby (Foret et al. 2021)."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Added to the gradient's norm, which may be 0.
_EPSILON = 1e-12


def make_train_step(model: keras.Model, radius: float) -> Callable[[tuple], dict[str, Any]]:
    """Returns a replacement of `model.train_step` that minimises the loss at `w + radius * g / |g|` instead of at w.

    g is the gradient of the batch's loss at w, and |g| its norm over all trained variables. The gradient at the other
    place is applied at w. Each step costs two forward and two backward passes. Both passes draw the same dropout. The
    statistics of BatchNormalization follow the first one only. In micro-batches each has a place of its own. A variable that the
    outputs do not depend on stays, as in Keras's own step.

    Args:
        model: compiled when the step is called.
        radius: above 0.
    """

    def gradients(data: tuple) -> tuple[tf.Tensor, list[tf.Tensor | None], tf.Tensor]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weights)
            scaled = model.optimizer.scale_loss(loss)
        found = tape.gradient(scaled, [variable.value for variable in model.trainable_variables])
        # Those of an embedding are of the rows that were looked up. What the outputs do not depend on has none.
        return loss, [None if one is None else tf.convert_to_tensor(one) for one in found], outputs

    def train_step(data: tuple) -> dict[str, Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        trained = [variable.value for variable in model.trainable_variables]
        layers = list(model._flatten_layers())
        statistics = [variable.value for layer in layers for variable in layer._non_trainable_variables]
        seeds = [generator.state.value for layer in layers for generator in layer._seed_generators]
        drawn_from = [tf.identity(seed) for seed in seeds]
        loss, first, outputs = gradients(data)
        model._loss_tracker.update_state(loss, sample_weight=tf.shape(outputs)[0])
        start = [tf.identity(variable) for variable in trained]
        state = [tf.identity(variable) for variable in (*statistics, *seeds)]
        moving = [(variable, gradient) for variable, gradient in zip(trained, first) if gradient is not None]
        norm = tf.linalg.global_norm([tf.cast(gradient, tf.float32) for _, gradient in moving])
        factor = radius / (norm + _EPSILON)
        for variable, gradient in moving:
            variable.assign_add(tf.cast(factor, variable.dtype) * tf.cast(gradient, variable.dtype))
        for seed, value in zip(seeds, drawn_from):
            seed.assign(value)
        _, second, _ = gradients(data)
        for variable, value in zip((*trained, *statistics, *seeds), (*start, *state)):
            variable.assign(value)
        # Keras leaves variables without a gradient out, of its weight decay too.
        model.optimizer.apply_gradients(zip(second, model.trainable_variables))
        return model.compute_metrics(x, y, outputs, sample_weight=weights)

    return train_step
