"""`stochastic_depth`: residual branches are dropped in training."""

import keras

from kerasft.networks import copies, residuals
from kerasft.networks.network import Network
from kerasft.networks.surgery import parts


def stochastic_depth(network: Network, rate: float = 0.1) -> Network:
    """The network whose residual branches are left out at random in training (Huang et al. 2016).

    The l-th of L branches is dropped with the probability rate * l / L, image by image. What stays is divided by the
    probability that it stays, so inference computes what it did. Only blocks that a phase does not freeze draw.

    Args:
        rate: probability of the last branch, in (0, 1).

    Raises:
        ValueError: a number out of its range, no residual sums, or stochastic depth that is there already.
    """
    parts.check_fraction(rate, "rate")
    sums = residuals.find(network)
    if not sums:
        raise ValueError(f"finds no residual sums in {network.name}")
    operations = {operation.name: operation for operation in network.model.operations}
    if any(_drops(operations[found.last]) for found in sums):
        raise ValueError(f"{network.name} has stochastic depth of its own, whose rate is fixed")
    rates = {found.name: (found.branch, rate * index / len(sums)) for index, found in enumerate(sums, 1)}

    def change(operation: keras.Operation, args: tuple, kwargs: dict) -> keras.KerasTensor | None:
        if operation.name not in rates:
            return None
        branch, share = rates[operation.name]
        tensors = list(keras.tree.flatten(args))
        # The mask has one value an image.
        shape = (None, *[1] * (len(tensors[branch].shape) - 1))
        name = f"{operation.name}_stochastic_depth"
        tensors[branch] = keras.layers.Dropout(share, shape, name=name, dtype="float32")(tensors[branch])
        return operation(*keras.tree.pack_sequence_as(args, tensors), **kwargs)

    return parts.with_model(network, copies.copied(network, parts.calling(change)))


def _drops(operation: keras.Operation) -> bool:
    """Whether an operation leaves out whole images, or is somebody's layer of stochastic depth."""
    if isinstance(operation, keras.layers.Dropout):
        # One value an image. Ordinary dropout draws one for each feature.
        shape = operation.noise_shape
        return operation.rate > 0 and shape is not None and all(side == 1 for side in shape[1:])
    return type(operation).__name__ in ("StochasticDepth", "DropPath")
