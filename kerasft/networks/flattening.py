"""Opens a model: the layers of nested models become one flat graph of layers with names of their own.

A freezing rule, a cut point and `unfreeze=` refer to one list of layers. In a nested model they would see one layer.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasft.networks import hub_layers
from kerasft.settings.errors import UserError

# They change an image in training only. What `--augment` does is better: it depends on seed and example alone.
_AUGMENTATIONS = tuple(
    kind
    for name, kind in vars(keras.layers).items()
    # At inference a RandomCrop crops the centre.
    if (name.startswith("Random") and name != "RandomCrop") or name in ("AugMix", "CutMix", "MixUp", "RandAugment")
)


class Opened(NamedTuple):
    """A flat graph.

    Attributes:
        output: of the graph, which begins at the tensor that was given.
        augmentations: names of layers that were left out.
        closed: names of layers with layers inside that cannot be opened: of a class whose `call` only its author knows.
        untied: names of layers that the model called several times, each of which got weights of its own.
    """

    output: keras.KerasTensor
    augmentations: tuple[str, ...]
    closed: tuple[str, ...]
    untied: tuple[str, ...]


def open_model(model: keras.Model, inputs: keras.KerasTensor) -> Opened:
    """Copies a model to one flat graph on other inputs, with the same weights and outputs.

    Functional and Sequential models inside are opened, whatever `training=` they were called with: what is frozen runs
    in inference mode (`strategies/freezing.py`). Layers keep their names, as far as these are unique.

    Args:
        model: functional or Sequential, of one input and one output. It stays as it is.
        inputs: in place of its input.

    Raises:
        UserError: a layer cannot be made again from its settings.
    """
    augmentations: list[str] = []
    closed: list[str] = []
    calls: dict[int, list[str]] = {}
    copied: list[tuple[keras.Operation, keras.Operation]] = []
    taken = _names_up_to(inputs)

    def run(operation: keras.Operation) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(operation, keras.Layer):
                kwargs.pop("training", None)
            if isinstance(operation, _AUGMENTATIONS):
                augmentations.append(operation.name)
                return args[0]
            if (inside := _opener(operation)) is not None:
                return inside(operation, args[0], run)
            name = _unique(operation.name, taken)
            calls.setdefault(id(operation), []).append(name)
            # What a layer of KerasHub is called with becomes one of its settings.
            wrapped = hub_layers.wrap(operation, name, **kwargs)
            twin = wrapped or _copy(operation, name)
            copied.append((operation, twin))
            if _is_closed(operation):
                closed.append(f"{name} ({type(operation).__name__})")
            return twin(*args) if wrapped else twin(*args, **kwargs)

        return call

    output = run(model)(inputs)
    for operation, twin in copied:
        _copy_weights(operation, twin)
    held = {id(operation): bool(getattr(operation, "weights", ())) for operation, _ in copied}
    untied = tuple(names[0] for one, names in calls.items() if len(names) > 1 and held[one])
    return Opened(output, tuple(augmentations), tuple(closed), untied)


def _opener(operation: keras.Operation) -> Callable[..., Any] | None:
    """What runs the layers inside of an operation one by one: a function of it, its inputs and `run`; None where it is closed."""
    if isinstance(operation, keras.Sequential):
        return _run_sequential
    # A class of somebody's own may give a functional model another `call`.
    if isinstance(operation, keras.Model) and type(operation).call is _FUNCTIONAL.call:
        return lambda model, inputs, run: model._run_through_graph(inputs, run)
    return hub_layers.opener(operation)


def _run_sequential(model: keras.Sequential, inputs: Any, run: Callable) -> Any:
    for layer in model.layers:
        inputs = run(layer)(inputs)
    return inputs


def _functional_class() -> type[keras.Model]:
    """The class of functional models, which Keras does not export."""
    inputs = keras.Input((1,))
    return type(keras.Model(inputs, keras.layers.Identity()(inputs)))


_FUNCTIONAL = _functional_class()


def _is_closed(operation: keras.Operation) -> bool:
    """Whether an operation has layers inside that a user would like to see, and train one by one."""
    if not isinstance(operation, keras.Layer):
        return False
    inside = [layer for layer in operation._flatten_layers(include_self=False) if layer.weights]
    known = type(operation).__module__.partition(".")[0] in ("keras", "keras_hub", "kerasft")
    return bool(inside) and (not known or any(isinstance(layer, keras.Model) for layer in inside))


def _copy(operation: keras.Operation, name: str) -> keras.Operation:
    """An operation with the same settings, another name, and weights that are still to be set."""
    if not isinstance(operation, keras.Layer):
        # Keras cannot serialise the arguments of some operations. An operation holds nothing but settings.
        twin = copy.copy(operation)
        twin.name, twin._inbound_nodes, twin._outbound_nodes = name, [], []
        return twin
    try:
        # Low-rank updates are folded into the kernel, see `_copy_weights`.
        config = {key: value for key, value in operation.get_config().items() if key not in ("lora_rank", "lora_alpha")}
        return type(operation).from_config({**config, "name": name})
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"the layer {operation.name} ({type(operation).__name__}) cannot be made again from its get_config()"
        raise UserError(f"--backbone: {what}: {reason}. Received: {operation.name!r}") from error


def _copy_weights(source: keras.Operation, target: keras.Operation) -> None:
    if isinstance(target, hub_layers.HubLayer):
        hub_layers.copy_weights(source, target)
    elif isinstance(source, keras.Layer) and source.weights:
        target.set_weights(_folded_weights(source))
        # They compute with copies of their weights. A closed layer may hold some.
        for inner in target._flatten_layers():
            if isinstance(inner, keras.layers.Normalization):
                inner.finalize_state()


def _folded_weights(layer: keras.Layer) -> list[np.ndarray]:
    """The weights of a layer without those of an update by Keras's `enable_lora`, which is added to its kernel."""
    if not getattr(layer, "lora_enabled", False):
        return layer.get_weights()
    name = "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"
    kernel, own = getattr(layer, f"_{name}"), [one for one in layer.weights if not one.name.startswith("lora_")]
    # The property without the underscore is that with the update.
    return [np.asarray(getattr(layer, name) if one is kernel else one) for one in own]


def _names_up_to(tensor: keras.KerasTensor) -> set[str]:
    """The names of a chain of operations, from the input of a graph to one of its tensors."""
    operation = tensor._keras_history.operation
    if isinstance(operation, keras.layers.InputLayer):
        return {operation.name}
    return _names_up_to(operation.input) | {operation.name}


def _unique(name: str, taken: set[str]) -> str:
    """A name that no other layer has; it is added to those that are taken."""
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
