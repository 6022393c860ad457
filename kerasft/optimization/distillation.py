"""Distillation: the loss by which a network learns from a teacher's answers as well as from labels (Hinton et al. 2015)."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from kerasft.optimization.losses import Loss

# Probabilities below this count as this. Their logarithms are the teacher's logits, but for a constant.
MIN_PROBABILITY = 1e-12


class Projection(NamedTuple):
    """From pooled features of a student to those of its teacher. It is fixed, and no part of the student.

    Attributes:
        kernel: float32 [D, P].
        bias: float32 [P].
        scale: float32, by which squared differences are divided: about the sum of the variances of the P.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scale: float


def fit_projection(student: np.ndarray, teacher: np.ndarray) -> Projection:
    """The ridge regression from features [N, D] to features [N, P] of the same images, centred.

    Its penalty is a hundredth of the mean variance of the D, for each example.

    Raises:
        ValueError: features that are not finite.
    """
    for name, features in (("student", student), ("teacher", teacher)):
        if not np.isfinite(features).all():
            raise ValueError(f"the features of the {name} are not finite on all training images")
    student, teacher = student.astype(np.float64), teacher.astype(np.float64)
    mean, middle = student.mean(0), teacher.mean(0)
    centred = student - mean
    square = centred.T @ centred / len(centred)
    penalty = max(0.01 * np.trace(square) / len(square), 1e-12) * np.eye(len(square))
    kernel = np.linalg.solve(square + penalty, centred.T @ (teacher - middle) / len(centred))
    scale = max(float(teacher.var(0).sum()), 1e-12)
    return Projection(kernel.astype(np.float32), (middle - mean @ kernel).astype(np.float32), scale)


def build(
    own: Loss,
    task: str,
    outputs: int,
    temperature: float,
    weight: float,
    scale: Sequence[float] | None = None,
    *,
    mixed: bool = False,
    projection: Projection | None = None,
    features_weight: float = 0.0,
    partly_labelled: bool = False,
) -> Loss:
    """The loss `(1 - a) own + a T^2 KL(teacher at T || network at T)`, with a the weight and T the temperature.

    The factor T^2 keeps the gradients of both parts in proportion at any T (Hinton et al. 2015, section 2). For several
    labels the second part is the mean over the labels, each against its absence. For values it is the mean squared
    difference to the teacher's, in units of `scale`.

    Args:
        own: of labels and outputs.
        task: `single_label`, `multi_label` or `regression`.
        outputs: C classes, or D targets.
        temperature, weight: T and a. Values have no T.
        scale: of D targets, their deviation in training.
        mixed: whether labels are shares of classes; `own` takes them as such.
        projection: of the network's features, where these learn too (FitNets, Romero et al. 2015): `features_weight` times the
            squared difference to the teacher's features, relative to the variance of these, is added.
        partly_labelled: whether images may lack a label. The last column of the targets is then the labelled share of an image,
            s: 1, or 0 without a label, or between them where images are mixed. The labels are multiplied by it already, and
            the first part of the loss is `(1 - a) s own(labels / s)`; where s is 0 it is 0.

    Returns:
        A function of targets, float32 [N, 2C], and outputs, float32 [N, C] logits or [N, D] values, to float32 [N]. The
        first C columns of the targets are the labels, classes as shares. The others are the teacher's probabilities or values.
        With a projection, P columns of the teacher's features follow, and in the outputs those of the network; the labelled
        share comes last.
    """
    ops = keras.ops
    divisor = ops.convert_to_tensor(scale if scale is not None else 1.0, "float32")

    def loss(targets: keras.KerasTensor, given: keras.KerasTensor) -> keras.KerasTensor:
        shares = targets[:, -1] if partly_labelled else None
        targets = targets[:, :-1] if partly_labelled else targets
        labels, answers, features = targets[:, :outputs], targets[:, outputs : 2 * outputs], targets[:, 2 * outputs :]
        if partly_labelled:
            labels = labels / ops.where(shares > 0, shares, 1.0)[:, None]
        given, own_features = given[:, :outputs], given[:, outputs:]
        if task == "single_label":
            gap = _divergence(ops.log(ops.maximum(answers, MIN_PROBABILITY)) / temperature, given / temperature)
            labels = labels if mixed else ops.argmax(labels, -1)
        elif task == "multi_label":
            present, absent = (ops.log(ops.maximum(one, MIN_PROBABILITY)) for one in (answers, 1 - answers))
            # Two classes whose logits are z and 0 have the probability sigmoid(z).
            pairs = (ops.stack([one, ops.zeros_like(one)], -1) / temperature for one in (present - absent, given))
            gap = ops.mean(_divergence(*pairs), -1)
        else:
            gap = ops.mean(ops.square((answers - given) / divisor), -1)
        factor = 1.0 if task == "regression" else temperature**2
        of_labels = own(labels, given)
        of_labels = of_labels * shares if partly_labelled else of_labels
        total = (1 - weight) * of_labels + weight * factor * gap
        if projection is None:
            return total
        gap = features - ops.matmul(own_features, projection.kernel) - projection.bias
        return total + features_weight / projection.scale * ops.sum(ops.square(gap), -1)

    return loss


def _divergence(teacher: keras.KerasTensor, student: keras.KerasTensor) -> keras.KerasTensor:
    """KL(softmax(teacher) || softmax(student)) of logits [..., C], to [...]."""
    known, learned = keras.ops.log_softmax(teacher), keras.ops.log_softmax(student)
    return keras.ops.sum(keras.ops.exp(known) * (known - learned), -1)
