"""`--target`: how small the network is to become, and how much validation score that may cost."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

# A step leaves at least this share of what there was. Fine-tuning makes up for small losses better than for a large one
# (Han et al. 2015, section 3.4; Li et al. 2017, section 3.4).
STEP = 0.7

# What `--target` may name, and what is counted for it.
MEASURES = {"flops": "multiplications", "parameters": "parameters"}
RULE = (
    "must be flops=SHARE or parameters=SHARE of the run's network, drop=POINTS of validation score, or a share and drop"
)


@dataclass(frozen=True)
class Target:
    """What slimming is to reach.

    Attributes:
        measure: what becomes less: `flops` (multiplications) or `parameters`.
        share: of the measure of the run's network, in (0, 1); None for as small as `drop` allows.
        drop: by how much the validation score may fall below that of the run; under regression, by how many deviations its
            error may grow. None for any.
    """

    measure: str
    share: float | None
    drop: float | None

    def __str__(self) -> str:
        found = {self.measure: self.share, "drop": self.drop}
        # In full: two targets must not share a folder.
        return ", ".join(f"{name}={value!r}" for name, value in found.items() if value is not None)


class Sizes(NamedTuple):
    """What a network costs."""

    multiplications: int
    parameters: int

    def of(self, target: Target) -> int:
        """The one that a target counts."""
        return getattr(self, MEASURES[target.measure])


def parse(text: str) -> Target:
    """Reads `--target`, such as `flops=0.5` or `flops=0.5, drop=0.01`.

    Raises:
        UserError: something else, or a share or a drop that is not in (0, 1).
    """
    received = f"Received: {text!r}"
    try:
        spec = specs.parse_one(f"target({text})", "--target")
    except UserError:
        raise UserError(f"--target: {RULE}. {received}") from None
    names = set(spec.kwargs)
    if spec.name != "target" or spec.args or not names or not names <= {*MEASURES, "drop"} or names >= set(MEASURES):
        raise UserError(f"--target: {RULE}. {received}")
    for name, value in spec.kwargs.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise UserError(f"--target: {name} must be a number in (0, 1). {received}")
    measure = next((name for name in MEASURES if name in names), "flops")
    return Target(measure, spec.kwargs.get(measure), spec.kwargs.get("drop"))


def next_share(target: Target, share: float) -> float:
    """The share of the run's network that the next step is to leave at most.

    The way to the target is divided into equal steps of at least `STEP` each.

    Args:
        share: that is left now, larger than that of the target.
    """
    if target.share is None:
        return share * STEP
    return share * (target.share / share) ** (1 / steps_left(target.share, share))


def steps_left(goal: float, share: float) -> int:
    """How many equal steps of at least `STEP` each lead from a share of the run's network to a smaller one."""
    return max(1, math.ceil(math.log(goal / share) / math.log(STEP) - 1e-9))
