"""How a learning rate changes with the images of a step."""

import math

import keras

from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec


def factor(optimizer: Spec, batch_size: int, reference: int) -> float:
    """The factor of a rate that was found with `reference` images a step, for `batch_size` of them.

    SGD's steps add gradients up, so its rate grows with the batch (Goyal et al. 2017). The steps of adaptive optimizers
    have the length of the rate whatever the gradient; theirs grows with the square root (Malladi et al. 2022).

    Args:
        optimizer: the Spec; one from outside counts as adaptive.
    """
    ratio = batch_size / reference
    if "." in optimizer.name:
        return math.sqrt(ratio)
    known = specs.choices(keras.optimizers, keras.optimizers.Optimizer)
    is_sgd = specs.resolve(optimizer, "--optimizer", known) is keras.optimizers.SGD
    return ratio if is_sgd else math.sqrt(ratio)
