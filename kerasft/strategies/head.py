"""`head(...)`: the head trains, the whole backbone is frozen."""

from kerasft.settings.spec import Spec
from kerasft.strategies.phase import HEAD_LR, Phase


def head(
    epochs: int | None = None,
    lr: float = HEAD_LR,
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    views: int | None = None,
) -> Phase:
    """The head alone, as in linear probing.

    Args:
        epochs: by default 0 under `--head_init=probe`, which has solved the head, else 5.
    """
    return Phase(
        strategy="head",
        unfreeze=0.0,
        epochs=epochs,
        lr=lr,
        optimizer=optimizer,
        schedule=schedule,
        loss=loss,
        augment=augment,
        views=views,
    )
