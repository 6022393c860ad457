"""ScheduleFreeAdamW as its paper has it: Keras 3.15 loses the point that its steps are the mean of."""

import keras


def mend(optimizer: keras.optimizers.ScheduleFreeAdamW) -> None:
    """Makes `update_step` average the points z as Defazio et al. 2024 do: x' = (1 - 1/t) x + z' / t.

    Keras takes x from y and the z before the step. But it holds that z by reference, so it reads the one after the step.
    Everything else is Keras's.
    """
    keras_step = optimizer.update_step

    def update_step(gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor) -> None:
        ops, z = keras.ops, optimizer._momentums[optimizer._get_variable_index(variable)]
        x = mean(optimizer, variable, z)
        keras_step(gradient, variable, learning_rate)
        share = 1 / ops.cast(optimizer.iterations + 1, variable.dtype)
        x = (1 - share) * x + share * z
        optimizer.assign(variable, (1 - optimizer.beta_1) * z + optimizer.beta_1 * x)

    optimizer.update_step = update_step


def mean(optimizer: keras.optimizers.ScheduleFreeAdamW, y: keras.Variable, z: keras.Variable) -> keras.KerasTensor:
    """The point x that the method returns, from y = (1 - beta_1) z + beta_1 x, which the model holds."""
    return (y - (1 - optimizer.beta_1) * z) / optimizer.beta_1
