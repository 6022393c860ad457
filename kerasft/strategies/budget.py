"""The rule of `--budget_minutes`: how many epochs of a phase of `auto` fit into the time that is left."""

import math
from collections.abc import Callable
from typing import NamedTuple

from kerasft.optimization import optimizers
from kerasft.settings.errors import UserError
from kerasft.strategies.phase import Phase

# A shortened phase has at least so many steps. BatchNormalization's statistics need some thirty to follow.
MIN_STEPS = 50

# Compiling a phase and timing its input, and exporting the network, take this many times as long as tracing one step.
TRACES_PER_PHASE = 4.0
TRACES_PER_EXPORT = 3.0

# Test images are computed so often: evaluated, and proven through `model.keras` and through the SavedModel.
PASSES_OVER_TEST = 3

# A run that takes more than so many times its budget has not kept it.
TOLERANCE = 1.15

# Seconds of the report, and of all that is written.
WRITING_SECONDS = 1.5


class Allowance(NamedTuple):
    """What a run may spend.

    Attributes:
        seconds: from its start to its end.
        started: moment of the monotonic clock at which it started, or would have started in one go.
        decoding: seconds that an image takes to be decoded.
    """

    seconds: float
    started: float
    decoding: float


class Speed(NamedTuple):
    """What was measured of a phase's steps.

    Attributes:
        tracing: seconds until the first step is done.
        step: seconds of a training step, its images included.
        image: seconds of a forward pass over one image of the network's own size.
        ahead: seconds until the features that a phase caches are computed; 0 for a phase on images.
        trained_share: of `image`, what a validation image takes in the phase: all, or the part behind its cached features.
    """

    tracing: float
    step: float
    image: float
    ahead: float = 0.0
    trained_share: float = 1.0

    @property
    def validated(self) -> float:
        """Seconds of a validation image in the phase."""
        return self.trained_share * self.image


def check(minutes: float | None, deterministic: bool) -> None:
    """Raises UserError for a budget where equal weights are wanted on every machine."""
    if minutes is not None and deterministic:
        rule = "the epochs that fit depend on the machine's speed, so it cannot be had with --deterministic"
        raise UserError(f"--budget_minutes: {rule}. Received: {minutes:g}")


def seconds_of_phase(phase: Phase, epochs: int, steps: int, val: int, speed: Speed) -> float:
    """Seconds of a phase with so many epochs of so many steps; `val` images are scored after each, and by each alpha."""
    return _seconds_around(phase, val, speed) + epochs * (steps * speed.step + val * speed.validated)


def seconds_after(test: int, speed: Speed, decoding: float) -> float:
    """Seconds from the end of training to the end of the run: evaluation, export, its proof on `test` images, report."""
    return test * (PASSES_OVER_TEST * speed.image + decoding) + TRACES_PER_EXPORT * speed.tracing + WRITING_SECONDS


def fitting_epochs(
    phase: Phase, steps: int, val: int, speed_of: Callable[[int], Speed], left: float, *, needed: bool
) -> int:
    """How many of its epochs a phase can have; 0 where it is not worth beginning.

    Args:
        speed_of: the speed by the number of epochs: fewer ones have fewer cached augmentations, or none.
        steps: of an epoch.
        val: images of the validation split.
        left: seconds for the phase.
        needed: whether the phase is the first, without which there is no network. It has an epoch and an update at least.
    """
    # With fewer steps, the optimizer would make no update.
    updated = optimizers.steps_of_update(phase.optimizer)
    fewest = math.ceil((updated if needed else max(MIN_STEPS, updated)) / steps)
    for epochs in range(phase.epochs, min(fewest, phase.epochs) - 1, -1):
        if seconds_of_phase(phase, epochs, steps, val, speed_of(epochs)) <= left:
            return epochs
    return fewest if needed else 0


def _seconds_around(phase: Phase, val: int, speed: Speed) -> float:
    """Seconds of a phase before its first step and after its last: features, compiling, scores before and of weights between."""
    scored = (2 + len(phase.alphas)) * val
    return speed.ahead + TRACES_PER_PHASE * speed.tracing + scored * speed.validated
