"""Shares that rise with the steps of a fit: an optimizer that raises them behind its own updates."""

import keras


def raise_with_steps(
    optimizer: keras.optimizers.Optimizer, shares: list[tuple[keras.Variable, int]], micro_batches: int
) -> None:
    """Raises scalars by 1 / steps with each step of an optimizer, up to 1, from where they are.

    They are raised where gradients are applied. So a forward pass that nothing is learned from raises nothing, and a step
    of two passes counts once.

    Args:
        optimizer: built, without a loss scale around it.
        shares: each with the number of steps from 0 to 1.
        micro_batches: calls that make one step.
    """
    if not shares:
        return
    apply = optimizer._backend_apply_gradients

    def applied(gradients: list, variables: list) -> None:
        apply(gradients, variables)
        for share, steps in shares:
            rise = 1 / (steps * micro_batches)
            raised = keras.ops.convert_to_tensor(share) + rise
            # A sum of many small numbers may end a little below 1.
            share.assign(keras.ops.where(raised > 1 - rise / 2, 1.0, raised))

    vars(optimizer)["_backend_apply_gradients"] = applied
