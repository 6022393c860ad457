"""Optimizers and learning-rate schedules: Keras's own by name, with the schedule over a whole phase."""

import math
from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
from keras.optimizers import schedules

from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

__all__ = ["constant", "cosine", "linear", "one_cycle", "plateau", "step"]

MAX_NORM = 1.0  # clipping of the global gradient norm, unless the optimizer's own arguments say otherwise
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_NOT_ALONE = ("LossScaleOptimizer", "MultiOptimizer")  # wrap other optimizers


class Plateau(NamedTuple):
    """A rate that falls when validation stands still: a function of the losses so far, not of the step.

    Attributes:
        factor: that the rate is multiplied by.
        patience: epochs without a lower loss before that.
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


def cosine(lr: float, steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> schedules.LearningRateSchedule:
    """Linear warm-up from 0, then half a cosine down to the floor (SGDR without restarts, Loshchilov & Hutter 2017).

    Args:
        lr: the highest rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
        floor: the last rate as a share of the highest, in [0, 1].
    """
    rising = _rising(steps, warmup)
    if not 0 <= floor <= 1:
        raise ValueError("floor must be in [0, 1]")
    if not rising:
        return schedules.CosineDecay(lr, steps, alpha=floor)
    return schedules.CosineDecay(0.0, steps - rising, alpha=floor, warmup_target=lr, warmup_steps=rising)


def linear(lr: float, steps: int, *, warmup: float = 0.1) -> schedules.LearningRateSchedule:
    """Linear warm-up from 0, then linearly down to 0 (as BERT's, Devlin et al. 2019, appendix A.2).

    Args:
        lr: the highest rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
    """
    rising = _rising(steps, warmup)
    return Piecewise([(0, 0.0), (rising, lr), (steps, 0.0)] if rising else [(0, lr), (steps, 0.0)])


def one_cycle(lr: float, steps: int) -> schedules.LearningRateSchedule:
    """Up from lr / 25 for 30 % of the steps, then down to nearly 0, each along a cosine.

    Smith & Topin 2018, with the numbers of fastai and PyTorch's `OneCycleLR`; the momentum is left as it is.
    """
    return Piecewise([(0, lr / 25), (round(0.3 * steps), lr), (steps, lr / 25e4)], cosine=True)


def step(
    lr: float, steps: int, *, at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1
) -> schedules.LearningRateSchedule:
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
    return schedules.PiecewiseConstantDecay(
        [round(share * steps) - 1 for share in shares], [lr * factor**i for i in range(len(shares) + 1)]
    )


def plateau(lr: float, steps: int, *, factor: float = 0.5, patience: int = 2) -> Plateau:
    """Constant, and multiplied by a factor whenever validation has not become better for some epochs.

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


def _rising(steps: int, warmup: float) -> int:
    if not 0 <= warmup < 1:
        raise ValueError("warmup must be in [0, 1)")
    return min(round(steps * warmup), steps - 1)


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise ValueError("factor must be in (0, 1)")


@keras.saving.register_keras_serializable("kerasft")
class Piecewise(schedules.LearningRateSchedule):
    """A rate through given points, along straight lines or half cosines between them.

    Args:
        points: (step, rate), by rising step.
        cosine: half cosines instead of lines.
    """

    def __init__(self, points: list[tuple[int, float]], cosine: bool = False):
        self.points, self.cosine = [tuple(point) for point in points], cosine

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The rate at a step, float32."""
        ops = keras.ops
        step = ops.cast(step, "float32")
        rate = ops.cast(self.points[-1][1], "float32")
        for (start, first), (end, last) in reversed(list(zip(self.points, self.points[1:]))):
            share = ops.clip((step - start) / max(end - start, 1), 0.0, 1.0)
            share = (1 - ops.cos(math.pi * share)) / 2 if self.cosine else share
            rate = ops.where(step < end, first + (last - first) * share, rate)
        return rate

    def get_config(self) -> dict:
        """What `from_config` needs."""
        return {"points": self.points, "cosine": self.cosine}


class PhaseSteps(schedules.LearningRateSchedule):
    """A schedule over the steps of a phase, for an optimizer that counts calls of its own.

    Args:
        inner: rate by the step of the phase.
        parts: calls that a step is done in.
        begun: steps of the phase that were done before the optimizer was made.
    """

    def __init__(self, inner: schedules.LearningRateSchedule, parts: int, begun: int):
        self.inner, self.parts, self.begun = inner, parts, begun

    def __call__(self, call: keras.KerasTensor) -> keras.KerasTensor:
        """The rate of the step that a call belongs to."""
        return self.inner(self.begun + call // self.parts)

    def get_config(self) -> dict:
        """What `from_config` needs."""
        return {"inner": self.inner, "parts": self.parts, "begun": self.begun}


def ema(*, momentum: float = 0.99) -> dict:
    """An exponential moving average of the weights over steps (Polyak & Juditsky 1992), as arguments of an optimizer.

    Args:
        momentum: share of the average that a step keeps, in (0, 1).
    """
    if not 0 < momentum < 1:
        raise ValueError("momentum must be in (0, 1)")
    return {"use_ema": True, "ema_momentum": momentum}


def build(
    optimizer: Spec,
    schedule: Spec,
    lr: float,
    steps: int,
    average: tuple[Spec, ...] = (),
    model: keras.Model | None = None,
    parts: int = 1,
    begun: int = 0,
) -> tuple[keras.optimizers.Optimizer, Plateau | None]:
    """The optimizer of one phase, built on a model's trainable variables, and what lowers its rate on a plateau.

    Weight decay leaves biases, normalisation and every other variable of less than two dimensions alone; the
    gradient's global norm is clipped at `MAX_NORM` unless the Spec clips by itself. A model that computes in float16
    gets its loss scaled. With `gradient_accumulation_steps=` schedules still count the steps that take a batch.

    Args:
        optimizer, schedule, average: Specs of the flags of these names.
        lr: highest learning rate.
        steps: of the whole phase.
        model: None only checks the Specs.
        parts: calls that a step is done in, whose gradients are averaged; the schedule counts steps.
        begun: steps of the phase that were done before, where it fell back to weights of its own. The schedule goes on
            from there. The optimizer begins anew, and counts from 0, for Adam corrects its moments by that count. The
            moving averages go on from the model's weights.

    Raises:
        UserError: an unknown name or argument.
    """
    rate = _rate(schedule, lr, steps)
    falling = rate if isinstance(rate, Plateau) else None
    if parts > 1:
        collected = parts * (optimizer.kwargs.get("gradient_accumulation_steps") or 1)
        optimizer = replace(optimizer, kwargs={**optimizer.kwargs, "gradient_accumulation_steps": collected})
    if (parts > 1 or begun) and isinstance(rate, schedules.LearningRateSchedule):
        rate = PhaseSteps(rate, parts, begun)
    known = specs.choices(keras.optimizers, keras.optimizers.Optimizer)
    known = {name: value for name, value in known.items() if name not in _NOT_ALONE}
    given = {"learning_rate": lr if falling else rate}
    for spec in average:
        given |= specs.build(spec, "--average", {"ema": ema})
    if not any(name in optimizer.kwargs for name in _CLIPPING):
        given["global_clipnorm"] = MAX_NORM
    kind = keras.optimizers.Optimizer
    built = specs.build(optimizer, "--optimizer", known, kind=kind, outside=kind, **given)
    if model is None:
        return built, falling
    variables = model.trainable_variables
    built.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    if built.use_ema:  # fit would write the averages into the model at its end, and training go on from there
        built.finalize_variable_values = lambda variables: None
    inner = built
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        built = keras.optimizers.LossScaleOptimizer(built)
    built.build(variables)
    if inner.use_ema:
        _average_steps(inner, begun)
    return built, falling


def _average_steps(optimizer: keras.optimizers.Optimizer, begun: int) -> None:
    """Averages once a step; Keras does so in every call, and starts anew where an optimizer's count is 0.

    Args:
        optimizer: built.
        begun: as in `build`.
    """
    averages, steps = optimizer._model_variables_moving_average, optimizer.gradient_accumulation_steps or 1
    pairs = [(variable, average) for variable, average in zip(optimizer._trainable_variables, averages)]
    if begun:
        for variable, average in pairs:
            average.assign(variable)

    def update(variables: list) -> None:
        ops = keras.ops
        call = optimizer._iterations + 1
        # The first step of a phase is all of the average.
        kept = optimizer.ema_momentum if begun else ops.where(call <= steps, 0.0, optimizer.ema_momentum)
        kept = ops.where(call % steps == 0, kept, 1.0)
        for variable, average in pairs:
            share = ops.cast(kept, average.dtype)
            average.assign(share * average + (1 - share) * variable)

    optimizer._update_model_variables_moving_average = update


def last_rate(schedule: Spec, lr: float, steps: int) -> float:
    """The rate of the last step under a schedule, where validation does not lower it."""
    rate = _rate(schedule, lr, steps)
    return float(rate(steps - 1)) if callable(rate) else lr


def _rate(schedule: Spec, lr: float, steps: int) -> float | schedules.LearningRateSchedule | Plateau:
    """What a `--schedule` Spec gives; one from outside takes `lr` and `steps` too."""
    own = {name: globals()[name] for name in __all__}
    outside = (schedules.LearningRateSchedule, float)
    return specs.build(schedule, "--schedule", own, outside=outside, lr=lr, steps=steps)


def averaged(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> list[np.ndarray]:
    """The model's weights, in the order of `get_weights`, with trained ones replaced by their moving averages.

    The averages are part of `optimizer.variables`. Without `--average` the weights are those of the model.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    averages = {}
    if inner.use_ema and int(inner.iterations):  # before the first step the averages are nothing, or the weights
        pairs = zip(inner._trainable_variables, inner._model_variables_moving_average)
        averages = {id(variable): average for variable, average in pairs}
    return [np.asarray(averages.get(id(weight), weight)) for weight in model.weights]
