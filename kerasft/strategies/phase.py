"""A phase: one compile and fit, and all that is said of it before it runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kerasft.settings.spec import Spec
from kerasft.strategies import attributes

# Highest learning rate of a phase that trains the head alone.
HEAD_LR = 1e-3

# Fractions of the way from the weights before a phase to those at its end; the first is preferred.
ALPHAS = (0.5, 0.75, 0.25, 1.0)

# What the text of a phase that is not kerasft's begins with, see `Origin`.
FOREIGN = "changed"

# What `Phase.variables` may be where all variables of an unfrozen layer train.
WHOLE_LAYERS = ("all", "quantised")


@dataclass(frozen=True)
class Origin:
    """The user's Spec of a phase that no strategy of kerasft can recreate.

    Attributes:
        spec: as `--phases` has it, such as `package.strategy(depth=2)`.
        place: of the phase among those that the Spec gives, from 0 on.
        phase: as the Spec gives it; its own `origin` is None.
    """

    spec: Spec
    place: int
    phase: "Phase"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One compile and fit.

    The fields with a `check` are keyword arguments of every strategy (see `takes_attributes`).

    Attributes:
        strategy: the name that `--phases` gives it, such as `head`; it is printed and names the phase's folder.
        arguments: the strategy's own arguments, as `--phases` takes them, without `epochs` and `lr`.
        unfreeze: what trains of the backbone: a fraction of its blocks in [0, 1], counted from the output, the name of
            the first layer that trains, or the names of the first layers of the blocks that train. None where the blocks
            are chosen when the phase begins. The head always trains.
        variables: which variables train in what is unfrozen, a key of `variables.VARIABLES`, such as `all` or `bias`.
        epochs: passes over the training images; None until the plan has resolved it.
        lr: highest learning rate.
        alphas: fractions of the phase's weights that weight interpolation tries, in (0, 1], the preferred one first.
        batch_norm: `hold` keeps the statistics of BatchNormalization layers bit for bit, and where whole layers train
            also their scales and offsets; `train` lets the unfrozen ones follow the batches.
        optimizer, schedule, loss: Specs; None stands for the flag's.
        augment: a tuple of Specs, empty for none; None stands for the flag's.
        views: cached augmentations of each image: 1 caches the image as it is, more cache augmented ones, 0 computes
            the frozen layers anew each epoch; None chooses.
        image_size: side of the training images, in pixels; None for the network's own. Validation and serving always
            use the network's own.
        conditional: runs only if the phase before gained enough (`auto.gained_enough`).
        stop_if_losing: ends at a third of its epochs if it would be undone there (`weight_interpolation.is_losing`).
        head_lr: the head's learning rate, as a multiple of `lr`; `auto` until `planning.plan` sets it (`auto.head_rate`).
        layer_decay: the learning rate is multiplied by this with each block from the head down (ELECTRA, Clark et al.
            2020).
        l2sp: strength of the pull to the weights before the phase (L2-SP, Li et al. 2018); 0 for none.
        sam: radius of sharpness-aware minimisation (Foret et al. 2021); 0 for none.
        agc: the gradient of a unit is at most this times the norm of its weights (Brock et al. 2021); 0 for no such limit.
        origin: of a phase that no strategy of kerasft gives again, else None. `planning.build` sets it.

    Raises:
        ValueError: an argument of the wrong type or out of its range.
    """

    strategy: str
    unfreeze: float | str | tuple[str, ...] | None
    epochs: int | None
    lr: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variables: str = "all"
    alphas: tuple[float, ...] = ALPHAS
    batch_norm: str = field(default="hold", metadata={"check": attributes.one_of("hold", "train")})
    optimizer: Spec | None = field(default=None, metadata={"check": attributes.spec})
    schedule: Spec | None = field(default=None, metadata={"check": attributes.spec})
    loss: Spec | None = field(default=None, metadata={"check": attributes.spec})
    augment: tuple[Spec, ...] | Spec | None = field(default=None, metadata={"check": attributes.recipe})
    views: int | None = field(default=None, metadata={"check": attributes.whole_number(0)})
    image_size: int | None = field(default=None, metadata={"check": attributes.whole_number(attributes.MIN_IMAGE_SIDE)})
    conditional: bool = field(default=False, metadata={"check": attributes.boolean})
    stop_if_losing: bool = field(default=False, metadata={"check": attributes.boolean})
    head_lr: float | str = field(
        default=1.0,
        metadata={
            "check": attributes.auto_or(
                attributes.number("auto, or a number in (0, 1000]", lambda value: 0 < value <= 1000)
            )
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"check": attributes.number("a number in (0, 1]", lambda value: 0 < value <= 1)}
    )
    l2sp: float = field(
        default=0.0, metadata={"check": attributes.number("a number in [0, 100]", lambda value: 0 <= value <= 100)}
    )
    sam: float = field(
        default=0.0, metadata={"check": attributes.number("a number in [0, 10]", lambda value: 0 <= value <= 10)}
    )
    agc: float = field(
        default=0.0, metadata={"check": attributes.number("a number in [0, 10]", lambda value: 0 <= value <= 10)}
    )
    origin: Origin | None = None

    def __post_init__(self) -> None:
        # A head that is solved already needs no epochs.
        fewest = 1 if self.trains_backbone else 0
        if self.epochs is not None and (type(self.epochs) is not int or self.epochs < fewest):
            raise ValueError(f"epochs must be a whole number of at least {fewest}")
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)) or not 0 < self.lr <= 10:
            raise ValueError("lr must be a number in (0, 10]")
        object.__setattr__(self, "alphas", attributes.fractions("alphas", self.alphas))
        for item in fields(self):
            if check := item.metadata.get("check"):
                object.__setattr__(self, item.name, check(item.name, getattr(self, item.name)))

    def __str__(self) -> str:
        """The phase as `--phases` takes it: `planning.parse` gives the same Phase.

        That of one with an `origin` is `changed(SPEC, ...)`, where what differs from the Spec's own phase is named. Only
        `planning.parse` takes it.
        """
        if self.origin:
            return str(Spec(FOREIGN, (self.origin.spec, self.origin.place), self._changes(self.origin.phase)))
        # A rate that nothing is trained at is left out where it is the default.
        named = {**self.arguments, "epochs": self.epochs}
        named |= {} if self.epochs == 0 and self.lr == HEAD_LR else {"lr": self.lr}
        for item in fields(self):
            value = getattr(self, item.name)
            if "check" in item.metadata and value != item.default:
                named[item.name] = Spec("none") if value == () else value
        return str(Spec(self.strategy, (), {name: value for name, value in named.items() if value is not None}))

    def _changes(self, other: "Phase") -> dict[str, Any]:
        """The fields in which the phase differs from another one, as arguments of a Spec."""
        pairs = [(item.name, getattr(self, item.name), getattr(other, item.name)) for item in fields(self)]
        changed = {name: value for name, value, before in pairs if name != "origin" and value != before}
        return {name: Spec("none") if value == () else value for name, value in changed.items()}

    @property
    def trains_backbone(self) -> bool:
        """Whether anything but the head trains."""
        return self.unfreeze != 0

    @property
    def freezes(self) -> bool:
        """Whether any part of the backbone is frozen."""
        return self.unfreeze != 1 or not self.trains_whole_layers

    @property
    def trains_all_layers(self) -> bool:
        """Whether all layers of the run's own network train."""
        return self.unfreeze == 1 and self.variables == "all"

    @property
    def trains_whole_layers(self) -> bool:
        """Whether nothing of an unfrozen layer stays, but for statistics of BatchNormalization."""
        return self.variables in WHOLE_LAYERS


def takes_attributes(*without: str) -> Callable[[Callable], Callable]:
    """Says in the signature of a strategy, where it has `**attributes`, which attributes these may be.

    `--phases` takes the arguments of the signature, and names them in its error messages.

    Args:
        without: names of the attributes that mean nothing to the strategy.
    """

    def declared(strategy: Callable) -> Callable:
        own = inspect.signature(strategy)
        kept = [one for one in own.parameters.values() if one.kind != inspect.Parameter.VAR_KEYWORD]
        for item in fields(Phase):
            if "check" in item.metadata and item.name not in (*without, *own.parameters):
                kind = inspect.Parameter.KEYWORD_ONLY
                kept.append(inspect.Parameter(item.name, kind, default=item.default, annotation=item.type))
        strategy.__signature__ = own.replace(parameters=kept)
        return strategy

    return declared
