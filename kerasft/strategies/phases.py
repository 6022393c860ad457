"""Phases: which layers train, for how long and how. The only place that touches `.trainable`."""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kerasft.networks import fused_batch_norm
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.settings.spec import Spec

__all__ = ["all", "head", "top"]

BATCH_NORM = ("hold", "train")
MIN_IMAGE_SIDE = 32  # pixels
HEAD_RATE = 1e-3
MIN_BLOCKS = 6  # between cut points, for fractions of them to mean anything
BN_MOMENTUM = 0.9  # Keras's 0.99 and MobileNetV2's 0.999 need thousands of steps to follow; fine-tuning has hundreds


@dataclass(frozen=True)
class Phase:
    """One compile and fit.

    Attributes:
        kind: `head`, `top` or `all`.
        unfreeze: fraction of the backbone's blocks counted from the output, or a layer's name; 0 for the head alone.
        epochs: passes over the training pictures; None until `plan` has settled it.
        lr: highest learning rate.
        batch_norm: `hold` keeps BatchNormalization layers bit for bit; `train` trains the unfrozen ones.
        optimizer, schedule, loss: Specs; None stands for the flag's.
        augment: a tuple of Specs, empty for none; or None for the flag's.
        image_size: side of the pictures that are trained on, in pixels; None for the network's own, which validation
            and serving have in any case.
        views: of each picture whose way through the frozen part is computed once and kept (see `feed`): 1 is the
            picture as it is, more are augmented ones, 0 computes everything anew each epoch; None chooses.
        conditional: runs only while the phase before gained much (`planning.gained_enough`); for `auto`.
    """

    kind: str
    unfreeze: float | str
    epochs: int | None
    lr: float
    batch_norm: str = "hold"
    optimizer: Spec | None = None
    schedule: Spec | None = None
    loss: Spec | None = None
    augment: tuple[Spec, ...] | Spec | None = None
    views: int | None = None
    image_size: int | None = None
    conditional: bool = False

    def __post_init__(self) -> None:
        whole = isinstance(self.epochs, int) and not isinstance(self.epochs, bool)
        if self.epochs is not None and not (whole and self.epochs >= (0 if self.kind == "head" else 1)):
            raise ValueError(f"epochs must be a whole number of at least {0 if self.kind == 'head' else 1}")
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)) or not 0 < self.lr <= 10:
            raise ValueError("lr must be a number in (0, 10]")
        if self.views is not None and (type(self.views) is not int or self.views < 0):
            raise ValueError("views must be a whole number of at least 0")
        if self.image_size is not None and (type(self.image_size) is not int or self.image_size < MIN_IMAGE_SIDE):
            raise ValueError(f"image_size must be a whole number of at least {MIN_IMAGE_SIDE}")
        for name in ("optimizer", "schedule", "loss"):
            if not isinstance(getattr(self, name), Spec | None):
                raise ValueError(f"{name} must be a name or a call, without quotes")
        recipe = self.augment if isinstance(self.augment, tuple) else (self.augment,)
        if any(not isinstance(one, Spec | None) for one in recipe):
            raise ValueError("augment must be names or calls joined by |, without quotes")
        if type(self.conditional) is not bool:
            raise ValueError("further must be True or False")
        word = self.batch_norm.name if isinstance(self.batch_norm, Spec) else self.batch_norm
        if word not in BATCH_NORM:
            raise ValueError(f"batch_norm must be 'hold' or 'train'{did_you_mean(str(word), BATCH_NORM)}")
        object.__setattr__(self, "batch_norm", word)
        if isinstance(self.unfreeze, Spec):  # a layer's name without quotes
            object.__setattr__(self, "unfreeze", str(self.unfreeze))
        if isinstance(self.augment, Spec):
            object.__setattr__(self, "augment", () if str(self.augment) == "none" else (self.augment,))

    def __str__(self) -> str:
        """All that it does, as `--phases` takes it: `parse` gives the same Phase."""
        named = {"unfreeze": self.unfreeze} if self.kind == "top" else {}
        named |= {"epochs": self.epochs} | ({} if self.epochs == 0 and self.lr == HEAD_RATE else {"lr": self.lr})
        named |= {} if self.batch_norm == "hold" else {"batch_norm": self.batch_norm}
        also = {"optimizer": self.optimizer, "schedule": self.schedule, "loss": self.loss}
        also |= {"augment": Spec("none") if self.augment == () else self.augment}
        also |= {"views": self.views, "image_size": self.image_size, "further": self.conditional or None}
        return str(Spec(self.kind, (), named | {name: value for name, value in also.items() if value is not None}))


def head(
    epochs: int | None = None,
    lr: float = HEAD_RATE,
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    views: int | None = None,
) -> Phase:
    """The head alone. Default epochs: 0 under `--head_init=probe`, which has solved the head; else 5."""
    return Phase("head", 0.0, epochs, lr, "hold", optimizer, schedule, loss, augment, views)


def top(
    unfreeze: float | str = 0.5,
    epochs: int = 5,
    lr: float = 1e-4,
    batch_norm: str = "hold",
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    views: int | None = None,
    image_size: int | None = None,
) -> Phase:
    """The head and the end of the backbone: this fraction of its blocks, or a layer and all after it."""
    return Phase("top", unfreeze, epochs, lr, batch_norm, optimizer, schedule, loss, augment, views, image_size)


def all(
    epochs: int = 5,
    lr: float = 1e-4,
    batch_norm: str = "hold",
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    image_size: int | None = None,
    conditional: bool = False,
) -> Phase:
    """The head and the whole backbone; a `conditional` one runs only where the phase before gained much."""
    return Phase("all", 1.0, epochs, lr, batch_norm, optimizer, schedule, loss, augment, None, image_size, conditional)


def parse(text: str) -> Phase:
    """The Phase that `str` wrote.

    Raises:
        UserError: it is no phase.
    """
    own = specs.choices(sys.modules[__name__])
    return specs.build(specs.parse_one(text, "--phases"), "--phases", own, kind=Phase)


def blocks(network: Network) -> list[str]:
    """The first layer of each of the backbone's blocks, input to output.

    A block is a stretch between two cut points that holds weights to train (other than normalisation), with the
    stretches behind it that hold none. In a network that has hardly any cut points (NASNet's cells look back over
    two others) every layer with such weights is one.
    """
    starts, opening, weighted = [], None, False
    operations = {operation.name: operation for operation in network.model.operations}
    for name in network.backbone:
        layer = operations[name]
        opening = opening or name
        weighted = weighted or _learns(layer)
        if name in network.cuts:
            if weighted:
                starts.append(opening)
            opening, weighted = None, False
    return starts if len(starts) >= MIN_BLOCKS else [name for name in network.backbone if _learns(operations[name])]


def first_layer(network: Network, phase: Phase) -> str | None:
    """The name of the first backbone layer that a phase trains; None for the head alone.

    Raises:
        UserError: an `unfreeze` that is neither a fraction in (0, 1] nor a layer of the backbone.
    """
    if phase.kind == "head":
        return None
    value = phase.unfreeze
    if isinstance(value, str) and value in network.backbone:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        starts = blocks(network)
        return network.backbone[0] if value == 1 else starts[-math.ceil(value * len(starts))]
    near = did_you_mean(value, network.backbone) if isinstance(value, str) else ""
    rule = f"top(unfreeze=) must be a fraction in (0, 1] or a layer of {network.name}{near}"
    raise UserError(f"--phases: {rule}. Received: {value!r}")


def apply(network: Network, phase: Phase) -> tuple[int, int]:
    """Freezes and unfreezes the layers as a phase says; returns the numbers of trainable and frozen parameters.

    Keras's `fit` runs every layer in training mode, whatever `training=` the graph was built with. So each frozen layer,
    and each one inside of it, is called in inference mode: dropout, noise and stochastic depth draw nothing, and
    statistics stay. BatchNormalization that is held has `trainable = False`, which does the same in an unfrozen layer.
    One that trains gets `BN_MOMENTUM` and a fused kernel.
    """
    first = first_layer(network, phase)
    backbone = network.backbone
    start = len(backbone) if first is None else backbone.index(first)
    unfrozen = set(backbone[start:])
    release(network)
    for layer in network.model.layers:
        inside = layer.name in backbone
        frozen = inside and layer.name not in unfrozen
        layer.trainable = not frozen
        for inner in layer._flatten_layers():
            norm = isinstance(inner, keras.layers.BatchNormalization)
            if frozen:
                if inner._call_has_training_arg:
                    _override(inner, "call", _inferring(inner.call))
            elif norm and inside and phase.batch_norm == "hold":
                inner.trainable = False
            elif norm:
                _override(inner, "momentum", BN_MOMENTUM)
                _override(inner, "call", fused_batch_norm.fused(inner))
    trainable = sum(math.prod(weight.shape) for weight in network.model.trainable_weights)
    return trainable, network.model.count_params() - trainable


def release(network: Network) -> None:
    """Undoes what `apply` holds, before the model is saved."""
    network.model.trainable = True
    for layer in network.model.layers:
        layer.trainable = True  # Keras leaves those alone of a model that is trainable itself
        for inner in layer._flatten_layers():
            _restore(inner)


def _inferring(call: Callable) -> Callable:
    """A layer's `call` in inference mode, whatever it is asked for."""

    @functools.wraps(call)
    def inferred(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs | {"training": False})

    return inferred


def _override(layer: keras.Layer, name: str, value: float | Callable) -> None:
    """Sets an attribute until `_restore`; what stood in the layer itself comes back, what its class gave is bared."""
    held = vars(layer).setdefault("kerasft_held", {})
    held[name] = vars(layer).get(name)
    vars(layer)[name] = value


def _restore(layer: keras.Layer) -> None:
    for name, value in vars(layer).pop("kerasft_held", {}).items():
        if value is None:
            del vars(layer)[name]
        else:
            vars(layer)[name] = value


def _learns(operation: keras.Operation) -> bool:
    """Whether an operation holds weights other than a normalisation's."""
    layers = keras.layers
    norms = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.Normalization)
    return isinstance(operation, keras.Layer) and not isinstance(operation, norms) and bool(operation.weights)
