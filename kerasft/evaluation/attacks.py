"""Attacks on a network: changes of the pixels, within a limit, that raise its loss. They bound its robustness from above."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

# The greatest change of a channel of a pixel, in levels of 0..255.
EPSILONS = (1, 2, 4)
PGD_STEPS = 10
# A step of PGD is this multiple of the limit, divided by the number of steps: so an image can go from any point of the box to
# any other (Madry et al. 2018 and their code).
PGD_REACH = 2.5

# Images of a call: the activations of all layers are kept for the gradient.
BATCH_SIZE = 16

# A function from images, float32 [N, S, S, 3] in 0..255, to the loss of each, float32 [N], and its gradient, [N, S, S, 3].
LossGradient = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def make_gradient(model: keras.Model, task: str, labels: np.ndarray, scale: np.ndarray | None) -> LossGradient:
    """Returns the loss of a model and its gradient with respect to the pixels, in inference mode.

    Args:
        model: float32 [N, S, S, 3] in 0..255 to logits [N, C] or values [N, D].
        task: `single_label`, `multi_label` or `regression` (squared error, in units of `scale`).
        labels: int32 [N], float32 [N, C] or float32 [N, D].
        scale: float [D] under regression.
    """

    def losses(outputs: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        if task == "single_label":
            return tf.nn.sparse_softmax_cross_entropy_with_logits(truth, outputs)
        if task == "multi_label":
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, outputs), -1)
        return tf.reduce_mean(tf.square((outputs - truth) / tf.cast(scale, tf.float32)), -1)

    image_spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    label_spec = tf.TensorSpec([None, *labels.shape[1:]], labels.dtype)

    @tf.function(input_signature=[image_spec, label_spec])
    def graph(images: tf.Tensor, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            found = losses(model(images, training=False), truth)
        return found, tape.gradient(found, images)

    def gradient(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, len(images), BATCH_SIZE)
        parts = [graph(*(tf.constant(one[start : start + BATCH_SIZE]) for one in (images, labels))) for start in starts]
        return tuple(np.concatenate([part.numpy() for part in one]) for one in zip(*parts, strict=True))

    return gradient


def fgsm(gradient: LossGradient, images: np.ndarray, epsilon: float) -> np.ndarray:
    """The fast gradient sign method (Goodfellow et al. 2015): one step of `epsilon` along the sign of the gradient.

    Args:
        gradient: of `make_gradient`, for these images.
        images: float32 [N, S, S, 3] in 0..255.
        epsilon: the greatest change of a channel, in levels of 0..255.

    Returns:
        float32 [N, S, S, 3] in 0..255.
    """
    return np.clip(images + epsilon * np.sign(gradient(images)[1]), 0, 255).astype(np.float32)


def pgd(gradient: LossGradient, images: np.ndarray, epsilon: float, seed: int) -> np.ndarray:
    """Projected gradient descent on the negative loss (Madry et al. 2018): `PGD_STEPS` steps from a random point of the box.

    Of all points that it visits, each image keeps the one with the highest loss, the image itself included.

    Args:
        gradient, images, epsilon: as for `fgsm`.
        seed: of the starting point.

    Returns:
        float32 [N, S, S, 3] in 0..255.
    """
    low, high = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 255)
    worst, (highest, _) = images.astype(np.float32), gradient(images)
    noise = np.random.default_rng(seed).uniform(-epsilon, epsilon, images.shape)
    points = np.clip(images + noise, low, high).astype(np.float32)
    for step in range(PGD_STEPS + 1):
        losses, slope = gradient(points)
        better = losses > highest
        worst, highest = np.where(better[:, None, None, None], points, worst), np.maximum(losses, highest)
        if step < PGD_STEPS:
            moved = points + PGD_REACH * epsilon / PGD_STEPS * np.sign(slope)
            points = np.clip(moved, low, high).astype(np.float32)
    return worst
