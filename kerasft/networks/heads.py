"""Heads: from the features of the backbone to one logit a class, and the initialisation of the last layer.

A head is a function of (features, outputs, initializer). To add one, add a function to `__all__`. It begins with
`standardise`, so its layers are a chain from `features` over `standardise` to `logits`.
"""

import inspect
from typing import Any

import keras

from kerasft.networks import activations, layer_names
from kerasft.settings import spec as specs
from kerasft.settings.errors import did_you_mean, one_of
from kerasft.settings.spec import Spec

__all__ = ["linear", "mlp"]

# Arguments of a head that change nothing of what given weights compute.
_TRAINING_ONLY = ("dropout", "hidden_init")

# Values of `--head_init` that are computed from the data, after the head is built.
DATA_INITIALIZERS = ("probe", "zeros", "prior")


@keras.saving.register_keras_serializable("kerasft")
class GeM(keras.layers.Layer):
    """Generalized-mean pooling with a learned exponent (Radenovic et al. 2018, equation 3).

    It computes mean(max(x, eps)^p)^(1/p) over height and width, or over tokens. p = 1 is the average, a large p approaches the maximum,
    and negative features count as 0. Features are in float32 and divided by their maximum, so that no power overflows or
    underflows. p is clipped to [1, 100].
    To load a model with this layer in plain Keras, `import kerasft.networks.heads` first.

    Args:
        p: initial exponent.
    """

    def __init__(self, p: float = 3.0, **kwargs):
        super().__init__(dtype="float32", **{name: value for name, value in kwargs.items() if name != "dtype"})
        self.start = p

    def build(self, shape: tuple) -> None:
        """Creates p, a scalar."""
        start = keras.initializers.Constant(self.start)
        self.p = self.add_weight(shape=(), initializer=start, constraint=_between_1_and_100, name="p")

    def call(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Pools [N, H, W, C] or [N, T, C] to float32 [N, C]."""
        ops = keras.ops
        places = tuple(range(1, len(features.shape) - 1))
        features = ops.maximum(features, keras.backend.epsilon())
        highest = ops.stop_gradient(ops.max(features, axis=places, keepdims=True))
        pooled = ops.mean(ops.power(features / highest, self.p), axis=places)
        return ops.squeeze(highest, places) * ops.power(pooled, 1 / self.p)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """[N, H, W, C] or [N, T, C] to [N, C]."""
        return shape[0], shape[-1]

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "p": self.start}


def _between_1_and_100(value: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.clip(value, 1.0, 100.0)


_POOLINGS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D, "gem": GeM}
# The same over tokens, such as those of a vision transformer.
_TOKEN_POOLINGS = {
    keras.layers.GlobalAveragePooling2D: keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalMaxPooling2D: keras.layers.GlobalMaxPooling1D,
    GeM: GeM,
}
_NORMS = {"none": None, "batch": keras.layers.BatchNormalization, "layer": keras.layers.LayerNormalization}


def standardise(features: keras.KerasTensor | list[keras.KerasTensor], pooling: str = "avg") -> keras.KerasTensor:
    """Pools features and standardises them with the statistics of the training set, which `head_init` sets.

    So one learning rate suits all features, whatever their scale and depth.

    Args:
        features: [N, H, W, C], [N, T, C] (tokens), or [N, C], which is not pooled again; or a list of these, one for each depth.
        pooling: `avg`, `max`, or `gem`. `gem` is for one depth.

    Returns:
        float32 [N, C], of several depths side by side; its layers are named `features` and `standardise`.

    Raises:
        ValueError: `gem` on several depths, or features that are vectors already under another pooling than `avg`.
    """
    pooled = pool(features, pooling)
    return keras.layers.Normalization(axis=-1, dtype="float32", name=layer_names.STANDARDISE)(pooled)


def pool(features: keras.KerasTensor | list[keras.KerasTensor], pooling: str = "avg") -> keras.KerasTensor:
    """The `features` layer's output; arguments, result and errors as in `standardise`."""
    layer = _choice(_POOLINGS, "pooling", pooling)
    given = features if isinstance(features, list) else [features]
    if layer is not _POOLINGS["avg"] and all(len(one.shape) == 2 for one in given):
        raise ValueError(f"pooling={pooling} has nothing to pool, for the features are a vector; leave it")
    if not isinstance(features, list):
        return _pooled(features, layer, layer_names.FEATURES)
    if layer is GeM:
        raise ValueError("pooling='gem' pools one depth only; choose --features=last, or pooling='avg' or 'max'")
    parts = [_pooled(one, layer, f"{layer_names.POOLED}{number}") for number, one in enumerate(features, 1)]
    return keras.layers.Concatenate(dtype="float32", name=layer_names.FEATURES)(parts)


def last_depth(model: keras.Model) -> keras.KerasTensor:
    """The pooled output of the backbone, float32 [N, C]: what the `features` layer gives of the last depth that it joins."""
    layer = model.get_layer(layer_names.FEATURES)
    return layer.input[-1] if isinstance(layer, keras.layers.Concatenate) else layer.output


def _pooled(features: keras.KerasTensor, layer: type[keras.Layer], name: str) -> keras.KerasTensor:
    layer = {4: layer, 3: _TOKEN_POOLINGS[layer]}.get(len(features.shape), keras.layers.Identity)
    return layer(dtype="float32", name=name)(features)


def _choice(table: dict, argument: str, value: str | Spec):
    """Returns the entry of a table that an argument names, with or without quotes."""
    name = value.name if isinstance(value, Spec) else value
    if name not in table:
        raise ValueError(f"{argument} must be one of {one_of(table)}{did_you_mean(str(name), table)}")
    return table[name]


def linear(
    features: keras.KerasTensor | list[keras.KerasTensor],
    outputs: int,
    initializer: str | keras.Initializer,
    *,
    pooling: str = "avg",
    dropout: float = 0.0,
) -> keras.KerasTensor:
    """Adds pooling, dropout and one dense layer.

    Args:
        features: as in `standardise`.
        outputs: C.
        initializer: of the dense kernel.
        pooling: as in `standardise`.
        dropout: share of features dropped in training, in [0, 1).

    Returns:
        float32 [N, C], logits.
    """
    _check_dropout(dropout)
    hidden = standardise(features, pooling)
    if dropout:
        hidden = keras.layers.Dropout(dropout, dtype="float32", name="head_dropout")(hidden)
    return _logits(hidden, outputs, initializer)


def mlp(
    features: keras.KerasTensor | list[keras.KerasTensor],
    outputs: int,
    initializer: str | keras.Initializer,
    *,
    units: tuple[int, ...] = (256,),
    activation: str | Spec = "gelu",
    dropout: float = 0.2,
    normalisation: str = "none",
    pooling: str = "avg",
    hidden_init: str | Spec = "glorot_uniform",
) -> keras.KerasTensor:
    """Adds pooling, hidden dense layers, each with normalisation, activation and dropout, and the logits.

    Under `--head_init=probe`, the last layer is solved on the hidden units at their random initialisation (an extreme
    learning machine, Huang et al. 2006). That is a start for training; the probe of `linear` is an optimum.

    Args:
        features: as in `standardise`.
        outputs: C.
        initializer: of the last dense kernel.
        units: widths of the hidden layers.
        activation: a name in keras.activations, or a layer such as `PReLU` or `LeakyReLU(negative_slope=0.1)`.
        dropout: share of hidden units dropped in training, in [0, 1).
        normalisation: `none`, `batch` or `layer`, before the activation.
        pooling: as in `standardise`.
        hidden_init: of the hidden kernels, any of keras.initializers, such as `he_normal` or `TruncatedNormal(stddev=0.02)`.

    Returns:
        float32 [N, C], logits.
    """
    layers = keras.layers
    units = units if isinstance(units, tuple | list) else (units,)
    if not units or any(type(width) is not int or width < 1 for width in units):
        raise ValueError("units must be whole numbers of at least 1, such as (256, 128)")
    _check_dropout(dropout)
    norm = _choice(_NORMS, "normalisation", normalisation)
    hidden = standardise(features, pooling)
    for index, width in enumerate(units):
        # One for each layer: an initializer that is used twice draws the same numbers again.
        given = {"use_bias": norm is None, "kernel_initializer": _hidden_initializer(hidden_init)}
        hidden = layers.Dense(width, **given, dtype="float32", name=f"head_hidden_{index}")(hidden)
        if norm:
            hidden = norm(dtype="float32", name=f"head_norm_{index}")(hidden)
        hidden = activations.layer(activation, "--head", f"head_activation_{index}", "float32")(hidden)
        if dropout:
            hidden = layers.Dropout(dropout, dtype="float32", name=f"head_dropout_{index}")(hidden)
    return _logits(hidden, outputs, initializer)


def _check_dropout(share: float) -> None:
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ValueError("dropout must be a number in [0, 1)")


def _logits(features: keras.KerasTensor, outputs: int, initializer: str | keras.Initializer) -> keras.KerasTensor:
    return keras.layers.Dense(outputs, kernel_initializer=initializer, dtype="float32", name=layer_names.LOGITS)(
        features
    )


def resolve_head_init(head_init: str, pretrained: bool) -> str:
    """Returns `--head_init` without `auto`. A probe needs pretrained features."""
    return ("probe" if pretrained else "glorot_uniform") if head_init.strip() == "auto" else head_init.strip()


def build(
    head: str, head_init: str, features: keras.KerasTensor | list[keras.KerasTensor], outputs: int
) -> keras.KerasTensor:
    """Builds the head that `--head` and `--head_init` name.

    Args:
        features: of the backbone, [N, H, W, C], [N, T, C] or [N, C], or a list of these (see `standardise`).
        outputs: C.

    Raises:
        UserError: an unknown head, argument or initializer.
    """
    heads = {name: globals()[name] for name in __all__}
    spec = specs.parse_one(head, "--head")
    initializer = _initializer(specs.parse_one(head_init, "--head_init"))
    arguments = {"features": features, "outputs": outputs, "initializer": initializer}
    return specs.build(spec, "--head", heads, kind=keras.KerasTensor, outside=keras.KerasTensor, **arguments)


def inference_settings(head: str) -> tuple[str, dict[str, Any]]:
    """The name of a head and those of its arguments, defaults included, on which its outputs depend for given weights."""
    spec = specs.parse_one(head, "--head")
    name, named = spec.name, dict(spec.kwargs)
    if "." not in name:
        built = specs.resolve(spec, "--head", {one: globals()[one] for one in __all__})
        parameters = inspect.signature(built).parameters
        name = built.__name__
        named = {one: it.default for one, it in parameters.items() if it.kind == it.KEYWORD_ONLY} | named
    # A list stands for a tuple.
    values = {one: tuple(value) if isinstance(value, list) else value for one, value in named.items()}
    return name, {one: str(value) for one, value in values.items() if one not in _TRAINING_ONLY}


def build_outputs(
    head: str,
    head_init: str,
    features: keras.KerasTensor | list[keras.KerasTensor],
    outputs: int,
    task: str,
) -> keras.KerasTensor:
    """The outputs of the network: logits, or values in the units of the targets. Arguments and errors as in `build`."""
    logits = build(head, head_init, features, outputs)
    if task != "regression":
        return logits
    # The layers before predict standardised targets, whatever the units of these.
    return keras.layers.Normalization(axis=-1, invert=True, dtype="float32", name=layer_names.VALUES)(logits)


def _hidden_initializer(given: str | Spec) -> keras.Initializer:
    spec, kind = given if isinstance(given, Spec) else Spec(str(given)), keras.initializers.Initializer
    return specs.build(spec, "--head", specs.choices(keras.initializers, kind), kind=kind)


def _initializer(spec: Spec) -> keras.Initializer:
    """Returns the Keras initializer; zeros for `DATA_INITIALIZERS`."""
    from_data = dict.fromkeys(DATA_INITIALIZERS, keras.initializers.Zeros)
    from_keras = specs.choices(keras.initializers, keras.initializers.Initializer)
    kind = keras.initializers.Initializer
    return specs.build(spec, "--head_init", from_data, from_keras, kind=kind, outside=kind)
