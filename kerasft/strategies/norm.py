"""`norm(...)`: the head and the scales and offsets of all normalisation layers of the backbone train."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes("views")
def norm(epochs: int = 5, lr: float = 1e-3, **attributes: Any) -> Phase:
    """Only gamma and beta of gamma (x - mean) / std + beta train, and the head (Frankle, Schwab & Morcos 2021).

    Means and deviations are the stored ones, unless `batch_norm='train'`, which lets them follow the batches.
    """
    return Phase(strategy="norm", unfreeze=1.0, variables="norm", epochs=epochs, lr=lr, **attributes)
