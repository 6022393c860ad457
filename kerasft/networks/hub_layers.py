"""Layers of KerasHub in a flat graph: how its encoders are opened, and a layer around one of KerasHub that can be saved.

Many layers of KerasHub can only be made by the model that they belong to: their `get_config` leaves arguments out or names
some that their class does not take. So a flat graph holds each of them inside a `HubLayer`, which knows its arguments.
"""

import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras

from kerasft.settings.errors import UserError

# The arguments of a class that its layers do not keep under the same name, and arguments that are to be others.
_ARGUMENTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "HierarchicalTransformerEncoder": lambda layer: {
        "sr_ratio": layer.attn.sr_ratio,
        "drop_prob": layer.drop_prop,
        "layer_norm_epsilon": layer.norm1.epsilon,
    },
    "PatchEmbedding": lambda layer: {"norm_layer": layer.norm_layer and "LayerNormalization"},
    "SwinTransformerBlock": lambda layer: {
        # The block's own is clipped to the resolution, that of its attention is not.
        "window_size": layer.attn.win_h,
        "qkv_bias": layer.attn.qkv_bias,
        "dropout_rate": layer.mlp.dropout_rate,
        "attention_dropout": layer.attn.attn_drop_rate,
        "drop_path": getattr(layer.drop_path, "drop_prob", 0.0),
    },
    # Masks are for pretraining. A token that nothing uses would get no gradient.
    **dict.fromkeys(("DINOV2Embedding", "DeiTEmbeddings"), lambda layer: {"use_mask_token": False}),
}

# Arguments that are a function or a class by default, and never another in KerasHub's models.
_LEFT_OUT = ("act_layer", "norm_layer")


@keras.saving.register_keras_serializable("kerasft")
class HubLayer(keras.layers.Layer):
    """One layer of KerasHub, made from its class and its arguments; of several outputs the first.

    To load a model with this layer in plain Keras, `import kerasft.networks.hub_layers` first.

    Args:
        layer: module and class below `keras_hub.src.`, such as `models.vit.vit_layers.ViTEncoderBlock`.
        arguments: of the class.
        call_arguments: of each call, besides the inputs.

    Raises:
        UserError: KerasHub is missing, or has no such layer.
    """

    def __init__(self, layer: str, arguments: dict[str, Any], call_arguments: dict[str, Any] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.layer, self.arguments, self.call_arguments = layer, dict(arguments), dict(call_arguments or {})
        self.inner = _find_class(layer)(**_resolved(arguments), name=self.name, dtype=self.dtype_policy)
        for inside in self.inner._flatten_layers():
            # MiT's classes give their own layers no dtype.
            inside.dtype_policy = self.dtype_policy

    def build(self, shape: tuple) -> None:
        """Builds the layer inside by a call: not every layer of KerasHub can be built otherwise."""
        self.shapes = tuple(shape[1:]), tuple(self.call(keras.ops.zeros((1, *shape[1:]))).shape[1:])

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Inputs and output are those of the layer inside."""
        outputs = self.inner(inputs, **self.call_arguments)
        return outputs[0] if isinstance(outputs, tuple | list) else outputs

    def compute_output_shape(self, shape: tuple) -> tuple:
        """The shape of the output.

        Raises:
            ValueError: inputs of another size than it was built for. Position embeddings and windows are made for one size.
        """
        if tuple(shape[1:]) != self.shapes[0]:
            raise ValueError(f"{self.name} takes inputs {self.shapes[0]}, not {tuple(shape[1:])}")
        return shape[0], *self.shapes[1]

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        own = {"layer": self.layer, "arguments": self.arguments, "call_arguments": self.call_arguments}
        return {**super().get_config(), **own}


def load(received: str = "a layer of KerasHub") -> Any:
    """The module `keras_hub`.

    Args:
        received: what needs it, for the error.

    Raises:
        UserError: it is not installed.
    """
    # Swin Transformer's attention names an argument `mask`, for which Keras warns without need.
    warnings.filterwarnings("ignore", message=r"Layer 'attn' \(of type WindowAttention\)")
    try:
        return importlib.import_module("keras_hub")
    except ModuleNotFoundError as error:
        raise UserError(f"--backbone: needs KerasHub: pip install 'kerasft[hub]'. Received: {received}") from error


def wrap(layer: keras.Layer, name: str, **call_arguments: Any) -> HubLayer | None:
    """A `HubLayer` with the settings of a layer of KerasHub, without its weights; None for any other layer."""
    if isinstance(layer, HubLayer) or not _is_of_hub(layer):
        return None
    kind = type(layer)
    own = _ARGUMENTS.get(kind.__name__, lambda _: {})(layer)
    arguments = {}
    for argument in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        if argument.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if argument.name in own:
            arguments[argument.name] = own[argument.name]
        elif argument.name not in _LEFT_OUT and (hasattr(layer, argument.name) or argument.default is argument.empty):
            arguments[argument.name] = getattr(layer, argument.name)
    path = f"{kind.__module__}.{kind.__qualname__}".removeprefix("keras_hub.src.")
    return HubLayer(path, arguments, call_arguments, name=name, dtype=layer.dtype_policy)


def holds_any(model: keras.Model) -> bool:
    """Whether a model holds layers of KerasHub, at any depth. Their position embeddings and windows are made for one size."""
    return any(isinstance(one, HubLayer) or _is_of_hub(one) for one in model._flatten_layers(include_self=False))


def copy_weights(source: keras.Layer, target: HubLayer) -> None:
    """Sets the weights of a built `HubLayer` to those of the layer that it was made from."""
    kept = [weight for weight in source.weights if weight.name != "mask_token"]
    for weight, value in zip(target.weights, kept, strict=True):
        weight.assign(value)


def opener(layer: keras.Operation) -> Callable[..., Any] | None:
    """What runs the layers inside of an encoder of KerasHub one by one: a function of it, its inputs and `run`; else None.

    `run` makes a copy of a layer and returns it as a function.
    """
    return _OPENERS.get(type(layer).__name__) if _is_of_hub(layer) else None


def _run_encoder(layer: Any, inputs: keras.KerasTensor, run: Callable) -> keras.KerasTensor:
    hidden = run(layer.dropout)(inputs) if getattr(layer, "dropout", None) is not None else inputs
    for block in layer.encoder_layers:
        hidden = run(block)(hidden)
    return run(layer.layer_norm)(hidden)


def _run_dinov2(layer: Any, inputs: keras.KerasTensor, run: Callable) -> tuple[keras.KerasTensor, dict]:
    stages = {}
    for number, block in enumerate(layer.layers, 1):
        inputs = stages[f"stage{number}"] = run(block)(inputs)
    return inputs, stages


def _run_stage(layer: Any, inputs: keras.KerasTensor, run: Callable) -> keras.KerasTensor:
    for block in layer.blocks:
        inputs = run(block)(inputs)
    if layer.downsample is None:
        return inputs
    height, width = layer.input_resolution
    return run(layer.downsample)(inputs, H=height, W=width)


_OPENERS = {
    "ViTEncoder": _run_encoder,
    # It has two more outputs, which its backbone leaves.
    "DeiTEncoder": lambda layer, inputs, run: (_run_encoder(layer, inputs, run), inputs, inputs),
    "DINOV2Encoder": _run_dinov2,
    "SwinTransformerStage": _run_stage,
}


def _is_of_hub(layer: keras.Operation) -> bool:
    return isinstance(layer, keras.Layer) and type(layer).__module__.startswith("keras_hub.src.")


def _find_class(path: str) -> type[keras.Layer]:
    load()
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"keras_hub.src.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--backbone: this version of KerasHub has no such layer. Received: {path!r}") from error
    # A saved model names it, so it must be no function.
    if not (isinstance(found, type) and issubclass(found, keras.Layer)):
        raise UserError(f"--backbone: must be a layer of KerasHub. Received: {path!r}")
    return found


def _resolved(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a class, with a class in place of the name of a normalisation."""
    norm = arguments.get("norm_layer")
    return {**arguments, "norm_layer": getattr(keras.layers, norm)} if norm else dict(arguments)
