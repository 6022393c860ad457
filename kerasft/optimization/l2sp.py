"""L2-SP: a penalty that pulls the weights to where they started from (Li, Grandvalet & Davoine 2018)."""

import keras
import numpy as np


def pull_to_start(optimizer: keras.optimizers.Optimizer, strength: float, starts: list[np.ndarray]) -> None:
    """Adds the gradient of `strength / 2 * sum (w - w_start)^2` to the gradients that an optimizer applies.

    It is added to the unscaled gradients, before they are clipped. The loss that is shown stays that of the data.

    Args:
        optimizer: built, without a loss scale around it.
        strength: 0 for no pull.
        starts: the value to which each of its variables is pulled, in its order.
    """
    if not strength:
        return
    apply = optimizer._backend_apply_gradients
    pairs = zip(optimizer._trainable_variables, starts, strict=True)
    targets = {optimizer._var_key(one): keras.ops.convert_to_tensor(start) for one, start in pairs}

    def pulled(gradients: list, variables: list) -> None:
        found = []
        for gradient, variable in zip(gradients, variables):
            start = keras.ops.cast(targets[optimizer._var_key(variable)], variable.dtype)
            found.append(gradient + strength * (keras.ops.convert_to_tensor(variable) - start))
        apply(found, variables)

    vars(optimizer)["_backend_apply_gradients"] = pulled
