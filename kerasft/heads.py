"""Heads: from the backbone's features to one logit a class, and how the last layer begins.

A head is a function of (features, outputs, initializer); adding one is adding a function to `__all__`.
"""

import keras

from kerasft import spec as specs
from kerasft.spec import Spec

__all__ = ["linear", "mlp"]

SOLVED = ("probe", "zeros", "prior")  # initialisations that are set after building, from the data


def linear(
    features: keras.KerasTensor, outputs: int, initializer: str | keras.Initializer, *, dropout: float = 0.0
) -> keras.KerasTensor:
    """Dropout, then one dense layer.

    Args:
        features: float32 [N, D].
        outputs: C.
        initializer: of the dense kernel.
        dropout: share of features dropped in training, in [0, 1).

    Returns:
        float32 [N, C], logits.
    """
    if dropout:
        features = keras.layers.Dropout(dropout, name="head_dropout")(features)
    return _logits(features, outputs, initializer)


def mlp(
    features: keras.KerasTensor,
    outputs: int,
    initializer: str | keras.Initializer,
    *,
    units: tuple[int, ...] = (256,),
    activation: str = "gelu",
    dropout: float = 0.2,
) -> keras.KerasTensor:
    """Hidden dense layers, each with an activation and dropout, then the logits.

    Args:
        features: float32 [N, D].
        outputs: C.
        initializer: of the last dense kernel; the hidden ones use Glorot's.
        units: widths of the hidden layers.
        activation: a name in keras.activations.
        dropout: share of hidden units dropped in training, in [0, 1).

    Returns:
        float32 [N, C], logits.
    """
    for index, width in enumerate(units):
        features = keras.layers.Dense(width, activation=activation, name=f"head_hidden_{index}")(features)
        if dropout:
            features = keras.layers.Dropout(dropout, name=f"head_dropout_{index}")(features)
    return _logits(features, outputs, initializer)


def _logits(features: keras.KerasTensor, outputs: int, initializer: str | keras.Initializer) -> keras.KerasTensor:
    return keras.layers.Dense(outputs, kernel_initializer=initializer, dtype="float32", name="logits")(features)


def settled_init(head_init: str, pretrained: bool) -> str:
    """`--head_init` with `auto` replaced: a probe of random features would only be in the way."""
    return ("probe" if pretrained else "glorot_uniform") if head_init.strip() == "auto" else head_init.strip()


def build(head: str, head_init: str, features: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    """Builds the head that `--head` and `--head_init` name.

    Pretrained features are first standardised with the training set's statistics (see `set_statistics`), so that
    one learning rate suits every feature, whatever its scale.

    Raises:
        UserError: an unknown head, argument or initializer.
    """
    ours = {name: globals()[name] for name in __all__}
    spec = specs.parse_one(head, "--head")
    initializer = _initializer(specs.parse_one(head_init, "--head_init"))
    scaled = keras.layers.Normalization(axis=-1, dtype="float32", name="standardise")(features)
    return specs.build(spec, "--head", ours, features=scaled, outputs=outputs, initializer=initializer)


def _initializer(spec: Spec) -> keras.Initializer:
    """The Keras initializer; zeros for those that are set from the data."""
    solved = dict.fromkeys(SOLVED, keras.initializers.Zeros)
    known = specs.choices(keras.initializers, keras.initializers.Initializer)
    return specs.build(spec, "--head_init", solved, known, kind=keras.initializers.Initializer)
