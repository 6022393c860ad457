"""`bias(...)`: the head and all biases and offsets of the backbone train, and no kernel."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes("views")
def bias(epochs: int = 5, lr: float = 1e-3, **attributes: Any) -> Phase:
    """BitFit (Ben Zaken, Ravfogel & Goldberg 2022): of y = W x + b only b trains, and the head.

    In a convolutional network most offsets are the betas of normalisation. Statistics of BatchNormalization are held,
    unless `batch_norm='train'`.
    """
    return Phase(strategy="bias", unfreeze=1.0, variables="bias", epochs=epochs, lr=lr, **attributes)
