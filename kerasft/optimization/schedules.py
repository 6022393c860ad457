"""Learning-rate schedules over the steps of a whole phase."""

import math
from typing import NamedTuple

import keras
from keras.optimizers.schedules import LearningRateSchedule

from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

# What `--schedule` may name: a function of the peak rate and of the steps of the phase.
__all__ = ["constant", "cosine", "linear", "one_cycle", "plateau", "polynomial", "step", "wsd"]


class Plateau(NamedTuple):
    """A rate that falls when the validation loss stands still. It depends on the losses so far, not on the step.

    Attributes:
        factor: the rate is multiplied by this.
        patience: so many epochs without a lower loss come first.
    """

    factor: float
    patience: int

    def rate(self, lr: float, losses: list[float]) -> float:
        """The rate after epochs with these validation losses, from lr."""
        best, waited = math.inf, 0
        for loss in losses:
            waited = 0 if loss < best else waited + 1
            best = min(best, loss) if math.isfinite(loss) else best
            if waited == self.patience:
                lr, waited = lr * self.factor, 0
        return lr


def constant(lr: float, steps: int) -> float:
    """The same rate throughout."""
    return lr


def cosine(lr: float, steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> LearningRateSchedule:
    """Linear warm-up from 0, then half a cosine down to the floor (SGDR without restarts, Loshchilov & Hutter 2017).

    Args:
        lr: the peak rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
        floor: the last rate as a share of the highest, in [0, 1].
    """
    climb = _warmup_steps(steps, warmup)
    if not 0 <= floor <= 1:
        raise ValueError("floor must be in [0, 1]")
    if not climb:
        return keras.optimizers.schedules.CosineDecay(lr, steps, alpha=floor)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - climb, alpha=floor, warmup_target=lr, warmup_steps=climb)


def linear(lr: float, steps: int, *, warmup: float = 0.1) -> LearningRateSchedule:
    """Linear warm-up from 0, then linearly down to 0 (as BERT's, Devlin et al. 2019, appendix A.2).

    Args:
        lr: the peak rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
    """
    climb = _warmup_steps(steps, warmup)
    return Piecewise([(0, 0.0), (climb, lr), (steps, 0.0)] if climb else [(0, lr), (steps, 0.0)])


def one_cycle(lr: float, steps: int) -> LearningRateSchedule:
    """Up from lr / 25 for 30 % of the steps, then down to nearly 0, each along a cosine.

    Smith & Topin 2018, with the numbers of fastai and PyTorch's `OneCycleLR`; the momentum is left as it is.
    """
    return Piecewise([(0, lr / 25), (round(0.3 * steps), lr), (steps, lr / 25e4)], cosine=True)


def step(lr: float, steps: int, *, at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1) -> LearningRateSchedule:
    """Constant, and multiplied by a factor after given shares of the steps (He et al. 2016, section 3.4).

    Args:
        lr: the first rate.
        steps: of the whole phase.
        at: rising shares of the steps, in (0, 1).
        factor: in (0, 1).
    """
    shares = at if isinstance(at, (tuple, list)) else (at,)
    if not shares or not all(a < b for a, b in zip((0, *shares), (*shares, 1))):
        raise ValueError("at must be rising shares of the steps in (0, 1), such as (0.5, 0.75)")
    _check_factor(factor)
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(share * steps) - 1 for share in shares], [lr * factor**i for i in range(len(shares) + 1)]
    )


def polynomial(
    lr: float, steps: int, *, power: float = 2.0, end: float = 0.0, warmup: float = 0.1
) -> LearningRateSchedule:
    """Linear warm-up from 0, then (1 - share of the steps)^power down to the end (DeepLab, Chen et al. 2017).

    Args:
        lr: the peak rate.
        steps: of the whole phase.
        power: above 0; 1 is a line.
        end: the last rate as a share of the highest, in [0, 1].
        warmup: share of the steps, in [0, 1).
    """
    climb = _warmup_steps(steps, warmup)
    if not 0 < power <= 10:
        raise ValueError("power must be in (0, 10]")
    if not 0 <= end <= 1:
        raise ValueError("end must be in [0, 1]")
    falling = (steps, end * lr)
    return Piecewise([(0, 0.0), (climb, lr), falling] if climb else [(0, lr), falling], power=power)


def wsd(lr: float, steps: int, *, warmup: float = 0.1, decay: float = 0.2) -> LearningRateSchedule:
    """Warm-up, stable, decay: linearly up from 0, constant, and linearly down to 0 (Hu et al. 2024; Hägele et al. 2024).

    Args:
        lr: the peak rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
        decay: share of the steps, in (0, 1], and at most what the warm-up leaves.
    """
    climb = _warmup_steps(steps, warmup)
    # 1 - 0.8 is a little less than 0.2.
    if not 0 < decay <= 1 - warmup + 1e-9:
        raise ValueError("decay must be in (0, 1], and at most 1 - warmup")
    fall = max(climb, steps - max(1, round(decay * steps)))
    return Piecewise([(0, 0.0 if climb else lr), (climb, lr), (fall, lr), (steps, 0.0)])


def plateau(lr: float, steps: int, *, factor: float = 0.5, patience: int = 2) -> Plateau:
    """Constant, and multiplied by a factor each time the validation loss has not fallen for some epochs.

    Args:
        lr: the first rate.
        steps: of the whole phase.
        factor: in (0, 1).
        patience: epochs, at least 1.
    """
    _check_factor(factor)
    if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
        raise ValueError("patience must be a whole number of at least 1")
    return Plateau(factor, patience)


def _warmup_steps(steps: int, warmup: float) -> int:
    if not 0 <= warmup < 1:
        raise ValueError("warmup must be in [0, 1)")
    return min(round(steps * warmup), steps - 1)


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise ValueError("factor must be in (0, 1)")


@keras.saving.register_keras_serializable("kerasft")
class Piecewise(LearningRateSchedule):
    """A rate through given points, along straight lines or half cosines between them.

    Args:
        points: (step, rate), by rising step.
        cosine: half cosines instead of lines.
        power: of what is left of the way to the last point.
    """

    def __init__(self, points: list[tuple[int, float]], cosine: bool = False, power: float = 1.0):
        self.points, self.cosine, self.power = [tuple(point) for point in points], cosine, power

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The rate at a step, float32."""
        ops = keras.ops
        step = ops.cast(step, "float32")
        rate = ops.cast(self.points[-1][1], "float32")
        for (start, first), (end, last) in reversed(list(zip(self.points, self.points[1:]))):
            share = ops.clip((step - start) / max(end - start, 1), 0.0, 1.0)
            share = (1 - ops.cos(math.pi * share)) / 2 if self.cosine else share
            if self.power != 1 and end == self.points[-1][0]:
                share = 1 - (1 - share) ** self.power
            rate = ops.where(step < end, first + (last - first) * share, rate)
        return rate

    def get_config(self) -> dict:
        """What `from_config` needs."""
        return {"points": self.points, "cosine": self.cosine, "power": self.power}


@keras.saving.register_keras_serializable("kerasft")
class PhaseSteps(LearningRateSchedule):
    """A schedule over the steps of a phase, for an optimizer that counts calls of its own.

    Args:
        inner: rate by the step of the phase.
        micro_batches: calls that make one step.
        start_step: steps of the phase that were done before the optimizer was made.
    """

    def __init__(self, inner: LearningRateSchedule, micro_batches: int, start_step: int):
        self.inner, self.micro_batches, self.start_step = inner, micro_batches, start_step

    def __call__(self, call: keras.KerasTensor) -> keras.KerasTensor:
        """The rate of the step that a call belongs to."""
        return self.inner(self.start_step + call // self.micro_batches)

    def get_config(self) -> dict:
        """What `from_config` needs."""
        inner = keras.saving.serialize_keras_object(self.inner)
        return {"inner": inner, "micro_batches": self.micro_batches, "start_step": self.start_step}

    @classmethod
    def from_config(cls, config: dict) -> "PhaseSteps":
        """The schedule that `get_config` described."""
        return cls(**{**config, "inner": keras.saving.deserialize_keras_object(config["inner"])})


def last_rate(schedule: Spec, lr: float, steps: int) -> float:
    """The rate of a phase's last step. A plateau counts as if validation never stood still."""
    rate = build(schedule, lr, steps)
    return float(rate(steps - 1)) if callable(rate) else lr


def build(schedule: Spec, lr: float, steps: int) -> float | LearningRateSchedule | Plateau:
    """What a `--schedule` Spec names. A schedule from outside takes `lr` and `steps` as well.

    Args:
        schedule: the Spec.
        lr: the peak rate.
        steps: of the whole phase.

    Raises:
        UserError: an unknown name or argument.
    """
    own = {name: globals()[name] for name in __all__}
    outside = (LearningRateSchedule, float)
    return specs.build(schedule, "--schedule", own, outside=outside, lr=lr, steps=steps)
