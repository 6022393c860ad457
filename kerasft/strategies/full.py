"""`all(...)`: the head and the whole backbone train."""

from kerasft.settings.spec import Spec
from kerasft.strategies.phase import Phase


def full(
    epochs: int = 5,
    lr: float = 1e-4,
    batch_norm: str = "hold",
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    image_size: int | None = None,
    conditional: bool = False,
) -> Phase:
    """All layers. Nothing is frozen but BatchNormalization under `batch_norm='hold'`, so nothing is cached.

    Args:
        conditional: whether the phase runs only if the one before it gained enough.
    """
    return Phase(
        strategy="all",
        unfreeze=1.0,
        epochs=epochs,
        lr=lr,
        batch_norm=batch_norm,
        optimizer=optimizer,
        schedule=schedule,
        loss=loss,
        augment=augment,
        image_size=image_size,
        conditional=conditional,
    )
