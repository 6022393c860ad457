"""Losses that Keras lacks for our label forms; all others are Keras's own by name."""

from collections.abc import Callable

import keras

from kerasft import spec as specs
from kerasft.spec import Spec

__all__ = ["cross_entropy"]

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy of integer labels and logits, with smoothed labels (Szegedy et al. 2016, section 7).

    -sum_c q_c log softmax(z)_c, with q = 1 - s + s / C for the label's class and s / C for the others.

    Args:
        label_smoothing: s, in [0, 1).

    Returns:
        A function of labels int32 [N] and logits float32 [N, C] to float32 [N].
    """
    if (
        isinstance(label_smoothing, bool)
        or not isinstance(label_smoothing, (int, float))
        or not 0 <= label_smoothing < 1
    ):
        raise ValueError("label_smoothing must be a number in [0, 1)")

    def loss(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        one_hot = keras.ops.one_hot(keras.ops.reshape(labels, [-1]), logits.shape[-1])
        return keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=label_smoothing)

    return loss


def build(spec: Spec) -> Loss:
    """The loss that a `--loss` Spec names: ours, or a keras.losses class for integer labels, given logits.

    Raises:
        UserError: an unknown name or argument.
    """
    known = specs.choices(keras.losses, keras.losses.Loss)
    sparse = {name: value for name, value in known.items() if name == "SparseCategoricalCrossentropy"}
    own = {name: globals()[name] for name in __all__}
    given = {} if specs.resolve(spec, "--loss", own, sparse) in own.values() else {"from_logits": True}
    return specs.build(spec, "--loss", own, sparse, **given)
