"""Averages of the weights: over the steps of a phase, as an optimizer keeps them, and over its epochs."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np

from kerasft.optimization import schedule_free
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

# What `--average` may name: a function of its arguments to an Average.
__all__ = ["ema", "soup", "swa"]

# So many epochs of a phase, those of the lowest validation loss, may become part of its soup.
SOUP_INGREDIENTS = 10


class Average(NamedTuple):
    """An average of weights.

    Attributes:
        kept: share of the moving average that a step keeps, by the step (from 1) and the steps of the phase; None
            where no average moves with the steps.
        estimates_statistics: whether the statistics of BatchNormalization are estimated anew for the averaged weights.
        over_epochs: whether the weights of epochs are averaged at the end of the phase.
        runs: folders of finished runs whose weights are averaged with them.
    """

    kept: Callable[[keras.KerasTensor, int], keras.KerasTensor] | None = None
    estimates_statistics: bool = False
    over_epochs: bool = False
    runs: tuple[str, ...] = ()


def ema(*, momentum: float = 0.99) -> Average:
    """An exponential moving average of the weights over steps (Polyak & Juditsky 1992).

    Args:
        momentum: share of the average that a step keeps, in (0, 1).
    """
    if not 0 < momentum < 1:
        raise ValueError("momentum must be in (0, 1)")

    def kept(step: keras.KerasTensor, steps: int) -> keras.KerasTensor:
        # The first step of a phase is all of the average.
        return keras.ops.where(step <= 1, 0.0, momentum)

    return Average(kept)


def swa(*, last: float = 0.25) -> Average:
    """The mean of the weights after each of the last steps of a phase (SWA, Izmailov et al. 2018).

    Before these steps the weights are as they are. It wants a rate that stays up, such as `constant`: with one that
    falls to 0 the last steps hardly differ.

    Args:
        last: share of the steps, in (0, 1].
    """
    if not 0 < last <= 1:
        raise ValueError("last must be in (0, 1]")

    def kept(step: keras.KerasTensor, steps: int) -> keras.KerasTensor:
        averaged = keras.ops.cast(step - first_averaged_step(last, steps) + 1, "float32")
        return 1 - 1 / keras.ops.maximum(averaged, 1.0)

    return Average(kept, estimates_statistics=True)


def soup(*, runs: tuple[str, ...] = ()) -> Average:
    """A greedy soup of the epochs of a phase, and of other runs (Wortsman et al. 2022).

    The weights after the best epoch on validation, and then each next best of the `SOUP_INGREDIENTS` best that does not
    make the mean of those so far worse on validation.

    Args:
        runs: folders of finished runs on the same splits. In phases that train all layers, the weights that each has left
            are ingredients like those of an epoch.
    """
    given = (runs,) if isinstance(runs, str) else runs
    if not isinstance(given, (tuple, list)) or not all(isinstance(run, str) and run for run in given):
        raise ValueError("runs must be run folders, such as ('runs/a', 'runs/b')")
    if len({*given}) < len(given):
        raise ValueError("runs must name each run once")
    return Average(over_epochs=True, runs=tuple(map(os.path.expanduser, given)))


def first_averaged_step(last: float, steps: int) -> int:
    """The first step, counted from 1, of this last share of the steps; at least one step is in it."""
    return steps - max(1, round(last * steps)) + 1


def build(specs_of_average: tuple[Spec, ...]) -> tuple[Average, ...]:
    """What `--average` names: at most one average over steps, and at most one over epochs.

    Raises:
        UserError: an unknown name or argument, or two of a kind.
    """
    known = {name: globals()[name] for name in __all__}
    built = tuple(specs.build(spec, "--average", known) for spec in specs_of_average)
    for kind in (True, False):
        if sum(one.over_epochs is kind for one in built) > 1:
            rule = "soup once at most" if kind else "one of ema and swa at most"
            received = " | ".join(map(str, specs_of_average))
            raise UserError(f"--average: names {rule}. Received: '{received}'")
    return built


def moving(built: tuple[Average, ...]) -> Average | None:
    """The average over steps, where there is one."""
    return next((one for one in built if one.kept), None)


def runs_of(built: tuple[Average, ...]) -> tuple[str, ...]:
    """The folders of other runs that become part of a soup."""
    return tuple(run for one in built for run in one.runs)


def without_runs(specs_of_average: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """The Specs without other runs, for a network that cannot take their weights."""
    return tuple(
        replace(spec, kwargs={name: value for name, value in spec.kwargs.items() if name != "runs"})
        for spec in specs_of_average
    )


def average_steps(optimizer: keras.optimizers.Optimizer, average: Average, steps: int, start_step: int) -> None:
    """Makes an optimizer update its averages once a step.

    Keras updates them in every call, and starts them anew where an optimizer's count is 0.

    Args:
        optimizer: built, with `use_ema`.
        average: over steps.
        steps: updates of the whole phase.
        start_step: updates that were done before this optimizer. Above 0, the averages start from the variables as they
            are, which then stand for the steps before.
    """
    calls = optimizer.gradient_accumulation_steps or 1
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average))
    if start_step:
        for variable, value in pairs:
            value.assign(variable)

    def update(variables: list) -> None:
        ops = keras.ops
        call = optimizer._iterations + 1
        kept = average.kept(start_step + call // calls, steps)
        kept = ops.where(call % calls == 0, kept, 1.0)
        for variable, value in pairs:
            share = ops.cast(kept, value.dtype)
            value.assign(share * value + (1 - share) * variable)

    optimizer._update_model_variables_moving_average = update


def averages_steps(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the weights that are evaluated are others than those of the model (see `averaged`)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return inner.use_ema or isinstance(inner, keras.optimizers.ScheduleFreeAdamW)


def averaged(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> list[np.ndarray]:
    """The model's weights in the order of `get_weights`, the trained ones replaced by their averages over steps.

    The averages are part of `optimizer.variables`. Without them the weights are those of the model. Only
    `ScheduleFreeAdamW` has one of its own: the model holds the point y where gradients are taken, and the method's
    result is its point x (Defazio et al. 2024).
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    averages = {}
    # Before the first step the averages are zeros.
    if int(inner.iterations):
        if inner.use_ema:
            pairs = zip(inner._trainable_variables, inner._model_variables_moving_average)
            averages = {id(variable): average for variable, average in pairs}
        elif isinstance(inner, keras.optimizers.ScheduleFreeAdamW):
            pairs = zip(inner._trainable_variables, inner._momentums)
            averages = {id(y): schedule_free.mean(inner, y, z) for y, z in pairs}
    return [np.asarray(averages.get(id(weight), weight)) for weight in model.weights]
