"""Optimizers and learning-rate schedules: Keras's own by name, with the schedule over a whole phase."""

import keras
from keras.optimizers import schedules

from kerasft import spec as specs
from kerasft.spec import Spec

__all__ = ["constant", "cosine"]

MAX_NORM = 1.0  # clipping of the global gradient norm, unless the optimizer's own arguments say otherwise
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


def constant(lr: float, steps: int) -> float:
    """The same rate throughout."""
    return lr


def cosine(lr: float, steps: int, *, warmup: float = 0.1) -> schedules.LearningRateSchedule:
    """Linear warm-up from 0, then half a cosine down to 0 (SGDR without restarts, Loshchilov & Hutter 2017).

    Args:
        lr: the highest rate.
        steps: of the whole phase.
        warmup: share of the steps, in [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError("warmup must be in [0, 1)")
    rising = round(steps * warmup)
    if not rising:
        return schedules.CosineDecay(lr, steps)
    return schedules.CosineDecay(0.0, steps - rising, warmup_target=lr, warmup_steps=rising)


def build(optimizer: Spec, schedule: Spec, lr: float, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of one phase.

    Weight decay leaves biases and normalisation alone; the gradient's global norm is clipped at `MAX_NORM`
    unless the Spec clips by itself.

    Raises:
        UserError: an unknown name or argument.
    """
    own = {name: globals()[name] for name in __all__}
    rate = specs.build(schedule, "--schedule", own, lr=lr, steps=steps)
    known = specs.choices(keras.optimizers, keras.optimizers.Optimizer)
    given = {"learning_rate": rate}
    if not any(name in optimizer.kwargs for name in _CLIPPING):
        given["global_clipnorm"] = MAX_NORM
    built = specs.build(optimizer, "--optimizer", known, kind=keras.optimizers.Optimizer, **given)
    if built.weight_decay:
        built.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return built
