"""Learning rates by variable: an optimizer whose updates of each variable are scaled by a factor of their own."""

import keras


def multiply_rates(optimizer: keras.optimizers.Optimizer, multipliers: list[float]) -> None:
    """Gives each variable of an optimizer the learning rate times a factor.

    A gradient that is scaled means nothing to an optimizer that divides by the gradient's size, such as Adam. So the rate
    is scaled with which the optimizer moves the variable, and with which it decays it. The factors are constants: the
    optimizer's variables are those that it has without them.

    Args:
        optimizer: built, without a loss scale around it.
        multipliers: one factor above 0 for each variable that it was built with.
    """
    if all(factor == 1 for factor in multipliers):
        return
    factors = {optimizer._var_key(one): by for one, by in zip(optimizer._trainable_variables, multipliers, strict=True)}
    update, decay, current_rate = (
        optimizer.update_step,
        optimizer._apply_weight_decay,
        optimizer._get_current_learning_rate,
    )

    def scaled_update(gradient, variable, learning_rate):
        return update(gradient, variable, learning_rate * factors[optimizer._var_key(variable)])

    def scaled_decay(variables: list) -> None:
        for variable in variables:
            factor = factors[optimizer._var_key(variable)]
            # Keras decays by what it takes for the present rate.
            vars(optimizer)["_get_current_learning_rate"] = lambda factor=factor: current_rate() * factor
            try:
                decay([variable])
            finally:
                del vars(optimizer)["_get_current_learning_rate"]

    vars(optimizer).update(update_step=scaled_update, _apply_weight_decay=scaled_decay)
