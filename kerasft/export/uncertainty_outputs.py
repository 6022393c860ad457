"""The graph of `--abstain` and `--coverage`: what a signature gives in addition to the answers, and what it must equal."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasft.evaluation import conformal as conformal_sets
from kerasft.evaluation.conformal import Conformal
from kerasft.evaluation.novelty import MIN_LENGTH, Novelty
from kerasft.export import proof

# How far a novelty may be from that of NumPy, in deviations of the novelty over the test images.
NOVELTY_TOLERANCE = 1e-2


class Uncertainty(NamedTuple):
    """What is served in addition to the answers: each part, or None."""

    novelty: Novelty | None = None
    conformal: Conformal | None = None


def in_graph(uncertainty: Uncertainty) -> Uncertainty:
    """The same with the references in a variable: as a constant each signature would store them anew."""
    if uncertainty.novelty is None or uncertainty.novelty.references is None:
        return uncertainty
    variable = tf.Variable(uncertainty.novelty.references, trainable=False, dtype=tf.float32, name="neighbours")
    return uncertainty._replace(novelty=uncertainty.novelty._replace(references=variable))


def serve(
    uncertainty: Uncertainty, features: tf.Tensor, outputs: tf.Tensor, answers: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The outputs of a signature that `--abstain` and `--coverage` add.

    Args:
        uncertainty: of `in_graph`, or with arrays.
        features: float32 [N, D], of `last_depth`, of the images as they are (not of mirror images).
        outputs: float32 [N, C] logits.
        answers: float32 [N, C] probabilities, or [N, D] values.

    Returns:
        `novelty` (float32 [N]) and `known` (bool [N]); `label_set` (bool [N, C]), or `lower` and `upper`
        (float32 [N, D]). What is None adds nothing.
    """
    given = {}
    if uncertainty.novelty is not None:
        references = uncertainty.novelty.references
        energy = references is None
        given["novelty"] = -tf.reduce_logsumexp(outputs, -1) if energy else _distance(references, features)
        given["known"] = given["novelty"] <= uncertainty.novelty.threshold
    if (found := uncertainty.conformal) is not None and found.radius is None:
        given["label_set"] = answers >= found.min_probability
    elif found is not None:
        radius = tf.constant(found.radius, tf.float32)
        given |= {"lower": answers - radius, "upper": answers + radius}
    return given


def _distance(references: np.ndarray | tf.Variable, features: tf.Tensor) -> tf.Tensor:
    """`novelty.distance` in TensorFlow: float32 [N]."""
    lengths = tf.maximum(tf.norm(features, axis=-1, keepdims=True), MIN_LENGTH)
    return 1 - tf.reduce_max(tf.matmul(features / lengths, references, transpose_b=True), -1)


def expected(
    uncertainty: Uncertainty, features: np.ndarray, outputs: np.ndarray, answers: np.ndarray
) -> dict[str, tuple]:
    """What `serve` must give, computed with NumPy; arguments as there.

    Returns:
        For each output its values and the differences that are allowed, in the form of `proof.compare_extra_outputs`.
    """
    wanted = {}
    if (found := uncertainty.novelty) is not None:
        scores = found.score(features, outputs)
        slack = NOVELTY_TOLERANCE * max(float(scores.std()), 1e-6)
        wanted["novelty"] = scores, slack
        wanted["known"] = scores <= found.threshold, np.abs(scores - found.threshold) <= slack
    if (found := uncertainty.conformal) is not None and found.radius is None:
        near = np.abs(answers - found.min_probability) <= proof.TOLERANCE
        wanted["label_set"] = conformal_sets.label_sets(found, answers), near
    elif found is not None:
        # A value is proven by itself; here the interval must lie around it.
        slack = 1e-3 * np.maximum(found.radius, 1e-6) + 1e-5 * np.abs(answers)
        wanted |= {"lower": (answers - found.radius, slack), "upper": (answers + found.radius, slack)}
    return wanted
