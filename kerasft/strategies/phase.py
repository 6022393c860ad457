"""A phase: one compile and fit, and all that is said of it before it runs."""

from dataclasses import dataclass

from kerasft.settings.errors import did_you_mean
from kerasft.settings.spec import Spec

BATCH_NORM = ("hold", "train")

# Highest learning rate of a phase that trains the head alone.
HEAD_LR = 1e-3

# Pixels: networks halve their input five times.
MIN_IMAGE_SIDE = 32

# Fractions of the way from the weights before a phase to those at its end; the first is preferred.
ALPHAS = (0.5, 0.75, 0.25, 1.0)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One compile and fit.

    Attributes:
        strategy: the name that `--phases` gives it, such as `head`; it is printed and names the phase's folder.
        unfreeze: what trains of the backbone: a fraction of its blocks in [0, 1], counted from the output, or the name
            of the first layer that trains. The head always trains.
        epochs: passes over the training images; None until the plan has resolved it.
        lr: highest learning rate.
        batch_norm: `hold` keeps BatchNormalization layers bit for bit; `train` trains the unfrozen ones.
        optimizer, schedule, loss: Specs; None stands for the flag's.
        augment: a tuple of Specs, empty for none; None stands for the flag's.
        image_size: side of the training images, in pixels; None for the network's own. Validation and serving always
            use the network's own.
        views: cached augmentations of each image: 1 caches the image as it is, more cache augmented ones, 0 computes
            the frozen layers anew each epoch; None chooses.
        conditional: runs only if the phase before gained enough (`auto.gained_enough`).
        alphas: fractions of the phase's weights that weight interpolation tries, in (0, 1], the preferred one first.

    Raises:
        ValueError: an argument of the wrong type or out of its range.
    """

    strategy: str
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
    alphas: tuple[float, ...] = ALPHAS

    def __post_init__(self) -> None:
        # A head that is solved already needs no epochs.
        fewest = 1 if self.trains_backbone else 0
        if self.epochs is not None and (type(self.epochs) is not int or self.epochs < fewest):
            raise ValueError(f"epochs must be a whole number of at least {fewest}")
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
            raise ValueError("conditional must be True or False")
        word = self.batch_norm.name if isinstance(self.batch_norm, Spec) else self.batch_norm
        if word not in BATCH_NORM:
            raise ValueError(f"batch_norm must be 'hold' or 'train'{did_you_mean(str(word), BATCH_NORM)}")
        object.__setattr__(self, "batch_norm", word)
        # A layer's name may stand without quotes.
        if isinstance(self.unfreeze, Spec):
            object.__setattr__(self, "unfreeze", str(self.unfreeze))
        if isinstance(self.augment, Spec):
            object.__setattr__(self, "augment", () if str(self.augment) == "none" else (self.augment,))

    def __str__(self) -> str:
        """The phase as `--phases` takes it: `planning.parse` gives the same Phase."""
        named = {"unfreeze": self.unfreeze} if self.strategy == "top" else {}
        # A rate that nothing is trained at is left out where it is the default.
        named |= {"epochs": self.epochs} | ({} if self.epochs == 0 and self.lr == HEAD_LR else {"lr": self.lr})
        named |= {} if self.batch_norm == "hold" else {"batch_norm": self.batch_norm}
        also = {"optimizer": self.optimizer, "schedule": self.schedule, "loss": self.loss}
        also |= {"augment": Spec("none") if self.augment == () else self.augment}
        also |= {"views": self.views, "image_size": self.image_size, "conditional": self.conditional or None}
        return str(Spec(self.strategy, (), named | {name: value for name, value in also.items() if value is not None}))

    @property
    def trains_backbone(self) -> bool:
        """Whether anything but the head trains."""
        return self.unfreeze != 0

    @property
    def freezes(self) -> bool:
        """Whether any part of the backbone is frozen."""
        return self.unfreeze != 1
