"""`all(...)`: the head and the whole backbone train."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes("views")
def full(epochs: int = 5, lr: float = 1e-4, batch_norm: str = "hold", **attributes: Any) -> Phase:
    """All layers. Nothing is frozen but BatchNormalization under `batch_norm='hold'`, so nothing is cached."""
    return Phase(strategy="all", unfreeze=1.0, epochs=epochs, lr=lr, batch_norm=batch_norm, **attributes)
