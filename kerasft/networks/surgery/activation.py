"""`activation`: other activations in the backbone, with the same weights."""

import keras

from kerasft.networks import activations, copies
from kerasft.networks.blending import Blend
from kerasft.networks.network import Network
from kerasft.networks.surgery import parts
from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

# Layers with an activation of their own behind what they compute.
_FUSING = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)

# One name for what has two.
_SYNONYMS = {"relu6": "relu", "swish": "silu", "hard_swish": "hard_silu"}

# Activation layers, and operations such as `keras.ops.relu(x)`, by the names of their classes.
_CLASSES = {
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu",
    "LeakyReLU": "leaky_relu",
    "LeakyRelu": "leaky_relu",
    "ELU": "elu",
    "Elu": "elu",
    "Silu": "silu",
    "Gelu": "gelu",
    "HardSilu": "hard_silu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}


def activation(
    network: Network,
    blocks: float = 1.0,
    *,
    blend: int = 0,
    relu: str | Spec | None = None,
    silu: str | Spec | None = None,
    hard_silu: str | Spec | None = None,
    gelu: str | Spec | None = None,
    elu: str | Spec | None = None,
    leaky_relu: str | Spec | None = None,
    tanh: str | Spec | None = None,
    sigmoid: str | Spec | None = None,
) -> Network:
    """The network with other activations. Weights keep their values; outputs change, with `blend` only in training.

    Activation layers count, and the `activation=` of convolutions and dense layers. ReLU6 counts as relu. The ReLU6 in a
    hard sigmoid, relu6(x + 3) / 6, does not: it is a gate.

    Args:
        blocks: of the backbone, the last ones, as a fraction.
        blend: training steps in which the new activation takes the old one's place (`blending.Blend`); 0 for at once.
        relu, silu, hard_silu, gelu, elu, leaky_relu, tanh, sigmoid: what takes the place of this activation: a name of
            keras.activations, or a layer such as `PReLU` or `LeakyReLU(negative_slope=0.1)`. A PReLU has one slope a
            channel, by default 0 at first; `alpha_initializer=Constant(0.25)` names any
            of keras.initializers.

    Raises:
        UserError: an unknown activation or argument.
        ValueError: nothing to replace, no fraction in (0, 1], or no number of steps.
    """
    given = {"relu": relu, "silu": silu, "hard_silu": hard_silu, "gelu": gelu, "elu": elu}
    given |= {"leaky_relu": leaky_relu, "tanh": tanh, "sigmoid": sigmoid}
    wanted = {old: new for old, new in given.items() if new is not None}
    if not wanted:
        raise ValueError("needs an activation to replace, such as relu=swish")
    if type(blend) is not int or blend < 0:
        raise ValueError("blend must be a whole number of training steps, or 0 for at once")
    names = parts.last_blocks(network, blocks)
    present = {op.name: kind(op) for op in network.model.operations if op.name in names and kind(op)}
    if missing := [old for old in wanted if old not in present.values()]:
        there = ", ".join(sorted(set(present.values()))) or "no activations that it knows"
        raise ValueError(f"finds no {missing[0]} in these blocks of {network.name}, which have {there}")
    chosen = {name: wanted[old] for name, old in present.items() if old in wanted}
    originals = {operation.name: operation for operation in network.model.operations}
    fused = {name for name, operation in originals.items() if isinstance(operation, _FUSING)}

    def new(operation: keras.Operation, name: str, old: keras.Operation) -> keras.Layer:
        layer = _layer(chosen[operation.name], name, len(operation.output.shape))
        return Blend(old, layer, blend, name=name, dtype="float32") if blend else layer

    def made(operation: keras.Operation) -> keras.Operation | None:
        if operation.name not in chosen:
            return None
        if operation.name in fused:
            # A layer behind takes the place of what is fused.
            return type(operation).from_config(operation.get_config() | {"activation": "linear"})
        return new(operation, operation.name, type(operation).from_config(operation.get_config()))

    def change(operation: keras.Operation, args: tuple, kwargs: dict) -> keras.KerasTensor | None:
        if operation.name not in chosen or operation.name not in fused:
            return None
        old = keras.layers.Activation(originals[operation.name].activation, dtype="float32")
        return new(originals[operation.name], f"{operation.name}_activation", old)(operation(*args, **kwargs))

    return parts.with_model(network, copies.copied_model(network.model, parts.calling(change), made))


def kind(operation: keras.Operation) -> str | None:
    """The name of an operation's activation, fused or its own; None where it has none."""
    if isinstance(operation, (keras.layers.Activation, *_FUSING)):
        name = getattr(operation.activation, "__name__", "linear")
        return None if name == "linear" else _SYNONYMS.get(name, name)
    if isinstance(operation, keras.layers.ReLU) and operation.negative_slope:
        return "leaky_relu"
    return None if _in_hard_sigmoid(operation) else _CLASSES.get(type(operation).__name__)


def _in_hard_sigmoid(operation: keras.Operation) -> bool:
    """Whether a ReLU6 acts on x + 3."""
    is_relu6 = getattr(operation, "max_value", None) == 6 or type(operation).__name__ == "Relu6"
    if not is_relu6:
        return False
    source = operation.input._keras_history.operation
    return type(source).__name__ == "Add" and isinstance(source.input, keras.KerasTensor)


def _layer(activation: str | Spec, name: str, rank: int) -> keras.Layer:
    """The layer of an activation of tensors of a rank."""
    spec = activation if isinstance(activation, Spec) else Spec(str(activation))
    if spec.name.lower() == "prelu":
        # One slope a channel, so that the size of the images may change.
        arguments = {"shared_axes": list(range(1, rank - 1))} | dict(spec.kwargs)
        if isinstance(start := arguments.get("alpha_initializer"), Spec):
            kind = keras.initializers.Initializer
            arguments["alpha_initializer"] = specs.build(start, "--surgery", specs.choices(keras.initializers, kind))
        spec = Spec("PReLU", spec.args, arguments)
    return activations.layer(spec, "--surgery", name, "float32")
