"""Averages of the weights over the steps of a phase, as an optimizer keeps them."""

import keras
import numpy as np

# What `--average` may name: a function that gives arguments of an optimizer.
__all__ = ["ema"]


def ema(*, momentum: float = 0.99) -> dict:
    """An exponential moving average of the weights over steps (Polyak & Juditsky 1992), as arguments of an optimizer.

    Args:
        momentum: share of the average that a step keeps, in (0, 1).
    """
    if not 0 < momentum < 1:
        raise ValueError("momentum must be in (0, 1)")
    return {"use_ema": True, "ema_momentum": momentum}


def average_steps(optimizer: keras.optimizers.Optimizer, start_step: int) -> None:
    """Makes an optimizer update its averages once a step.

    Keras updates them in every call, and starts them anew where an optimizer's count is 0.

    Args:
        optimizer: built, with `ema`.
        start_step: as in `optimizers.build`. Above 0, the averages start from the variables as they are.
    """
    steps = optimizer.gradient_accumulation_steps or 1
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average))
    if start_step:
        for variable, average in pairs:
            average.assign(variable)

    def update(variables: list) -> None:
        ops = keras.ops
        call = optimizer._iterations + 1
        # The first step of a phase is all of the average.
        kept = optimizer.ema_momentum if start_step else ops.where(call <= steps, 0.0, optimizer.ema_momentum)
        kept = ops.where(call % steps == 0, kept, 1.0)
        for variable, average in pairs:
            share = ops.cast(kept, average.dtype)
            average.assign(share * average + (1 - share) * variable)

    optimizer._update_model_variables_moving_average = update


def averaged(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> list[np.ndarray]:
    """The model's weights in the order of `get_weights`, the trained ones replaced by their moving averages.

    The averages are part of `optimizer.variables`. Without them the weights are those of the model.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    averages = {}
    # Before the first step the averages are zeros.
    if inner.use_ema and int(inner.iterations):
        pairs = zip(inner._trainable_variables, inner._model_variables_moving_average)
        averages = {id(variable): average for variable, average in pairs}
    return [np.asarray(averages.get(id(weight), weight)) for weight in model.weights]
