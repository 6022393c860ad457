"""Optimizers: Keras's own by name, with decay, clipping, loss scaling and accumulation that suit fine-tuning."""

import inspect
import math
from dataclasses import replace

import keras
from keras.optimizers.schedules import LearningRateSchedule

from kerasft.optimization import averages, schedule_free, schedules, weight_decay
from kerasft.optimization.schedules import Plateau
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

# The gradient's global norm is clipped at this, unless the optimizer's own arguments say otherwise.
MAX_NORM = 1.0

# The arguments with which an optimizer clips by itself.
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")

_ACCUMULATION = "gradient_accumulation_steps"

# Arguments that are a number or None. Of the others, the default is a number.
_OPTIONAL_NUMBERS = (*_CLIPPING, "weight_decay", "ema_overwrite_frequency", "loss_scale_factor", _ACCUMULATION)

# Ranges that Keras does not check: of means over steps, of what is divided or compared by, and of what only shrinks.
_WHOLE = (_ACCUMULATION, "ema_overwrite_frequency", "ns_steps", "warmup_steps")
_SHARES = ("beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "rho", "momentum")
_BETWEEN = ("ema_momentum",)
_POSITIVE = (*_CLIPPING, "loss_scale_factor", "clip_threshold")
_NOT_NEGATIVE = ("weight_decay", "adam_weight_decay", "epsilon")

# These wrap other optimizers, so `--optimizer` cannot name them.
_WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer")


def build(
    optimizer: Spec,
    schedule: Spec,
    lr: float,
    steps: int,
    average: tuple[Spec, ...] = (),
    model: keras.Model | None = None,
    micro_batches: int = 1,
    start_step: int = 0,
) -> tuple[keras.optimizers.Optimizer, Plateau | None]:
    """The optimizer of one phase, built on a model's trainable variables, and what lowers its rate on a plateau.

    Weight decay leaves biases, normalisation and the like alone (`weight_decay.excluded`). The gradient's global norm is clipped at `MAX_NORM`, unless the Spec clips by itself. The loss of a model that computes in float16
    is scaled. With `gradient_accumulation_steps=` a schedule still counts the steps that take a batch.

    Args:
        optimizer, schedule, average: Specs of the flags of these names.
        lr: the peak rate.
        steps: of the whole phase.
        model: None only checks the Specs.
        micro_batches: calls that make one step. Their gradients are averaged, and the schedule counts steps.
        start_step: steps of the phase that were done before it fell back to weights of its own. The schedule goes on
            from there, and the moving averages from the model's weights. The optimizer counts from 0 again, because
            Adam corrects its moments by that count.

    Raises:
        UserError: an unknown name or argument, a number out of its range, more gradients to accumulate than `steps`, or FTRL
            with a schedule that begins at 0.
    """
    _refuse_rate(optimizer)
    rate = schedules.build(schedule, lr, steps)
    plateau = rate if isinstance(rate, Plateau) else None
    accumulated = steps_of_update(optimizer)
    if model is not None:
        check_accumulation(optimizer, steps)
    if micro_batches > 1:
        collected = {_ACCUMULATION: micro_batches * accumulated}
        optimizer = replace(optimizer, kwargs={**optimizer.kwargs, **collected})
    if (micro_batches > 1 or start_step) and isinstance(rate, LearningRateSchedule):
        rate = schedules.PhaseSteps(rate, micro_batches, start_step)
    known = specs.choices(keras.optimizers, keras.optimizers.Optimizer)
    known = {name: value for name, value in known.items() if name not in _WRAPPERS}
    given = {"learning_rate": lr if plateau else rate}
    moving = averages.moving(averages.build(average))
    given |= {"use_ema": True} if moving else {}
    if not any(name in optimizer.kwargs for name in _CLIPPING):
        given["global_clipnorm"] = MAX_NORM
    kind = keras.optimizers.Optimizer
    built = specs.build(optimizer, "--optimizer", known, kind=kind, outside=kind, **given)
    _check_numbers(optimizer, built)
    if isinstance(built, keras.optimizers.Ftrl) and callable(rate) and float(rate(0)) == 0:
        rule = f"{optimizer.name}() divides by the rate, so --schedule must not begin at 0; take one_cycle or warmup=0"
        raise UserError(f"--optimizer: {rule}. Received: '{schedule}'")
    if isinstance(built, keras.optimizers.ScheduleFreeAdamW):
        if not built.beta_1:
            rule = (
                f"beta_1 of {optimizer.name}() must be a number in (0, 1), for the mean of its steps is divided by it"
            )
            raise UserError(f"--optimizer: {rule}. Received: {built.beta_1!r}")
        schedule_free.mend(built)
    if model is None:
        return built, plateau
    variables = model.trainable_variables
    built.exclude_from_weight_decay(var_list=weight_decay.excluded(variables))
    if built.use_ema:
        # At its end, fit would write the averages into the model, and a later fit would go on from them.
        built.finalize_variable_values = lambda variables: None
    inner = built
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        built = keras.optimizers.LossScaleOptimizer(built)
    built.build(variables)
    if inner.use_ema:
        moving = moving or averages.ema(momentum=inner.ema_momentum)
        averages.average_steps(inner, moving, steps // accumulated, start_step // accumulated)
    return built, plateau


def steps_of_update(optimizer: Spec) -> int:
    """Steps whose gradients an optimizer adds up for one update."""
    return optimizer.kwargs.get(_ACCUMULATION) or 1


def check_accumulation(optimizer: Spec, steps: int) -> None:
    """Raises UserError for a phase of too few steps for one update."""
    if (accumulated := steps_of_update(optimizer)) > steps:
        rule = f"{_ACCUMULATION} of {optimizer.name}() must be at most {steps}, the steps of the phase"
        raise UserError(f"--optimizer: {rule}. Received: {accumulated}")


def _refuse_rate(spec: Spec) -> None:
    """Refuses a learning rate in an optimizer of Keras, whose first argument it is.

    Raises:
        UserError: see above.
    """
    if "." not in spec.name and (spec.args or {"lr", "learning_rate"} & {*spec.kwargs}):
        rule = "the learning rate is lr= of a phase, such as --phases='head | all(epochs=5, lr=1e-4)'"
        raise UserError(f"--optimizer: {rule}; other arguments are name=value. Received: '{spec}'")


def _check_numbers(spec: Spec, built: keras.optimizers.Optimizer) -> None:
    """Refuses arguments of Keras's own optimizers that these take, and fail with in the first step or train wrongly with.

    Raises:
        UserError: an argument of another type than its default, or a number out of its range.
    """
    if "." in spec.name:
        return
    parameters = inspect.signature(type(built)).parameters
    for name, value in spec.kwargs.items():
        if rule := _broken_rule(name, parameters[name].default, value):
            given = f"'{value}'" if isinstance(value, Spec) else repr(value)
            raise UserError(f"--optimizer: {name} of {spec.name}() must be {rule}. Received: {given}")


def _broken_rule(name: str, default: object, value: object) -> str | None:
    """What an argument must be, in words, where it is not."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    optional = name in _OPTIONAL_NUMBERS
    if (value is None and optional) or not (optional or type(default) in (int, float)):
        return None
    if name in _WHOLE:
        return None if type(value) is int and value >= 0 else "a whole number"
    if type(value) not in (int, float) or not math.isfinite(value):
        return "a number"
    for names, rule, holds in (
        (_SHARES, "a number in [0, 1)", 0 <= value < 1),
        (_BETWEEN, "a number in (0, 1)", 0 < value < 1),
        (_POSITIVE, "a number above 0", value > 0),
        (_NOT_NEGATIVE, "a number of at least 0", value >= 0),
    ):
        if name in names and not holds:
            return rule
    return None
