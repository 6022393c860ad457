"""`top(...)`: the head and the last blocks of the backbone train."""

from kerasft.settings.spec import Spec
from kerasft.strategies.phase import Phase


def top(
    unfreeze: float | str = 0.5,
    epochs: int = 5,
    lr: float = 1e-4,
    batch_norm: str = "hold",
    optimizer: Spec | None = None,
    schedule: Spec | None = None,
    loss: Spec | None = None,
    augment: Spec | tuple | None = None,
    views: int | None = None,
    image_size: int | None = None,
) -> Phase:
    """The head and the end of the backbone, as in Yosinski et al. 2014.

    Args:
        unfreeze: a fraction of the backbone's blocks in (0, 1], or the name of the first layer that trains.

    Raises:
        ValueError: a fraction out of its range.
    """
    number = isinstance(unfreeze, (int, float))
    if isinstance(unfreeze, bool) or (number and not 0 < unfreeze <= 1):
        raise ValueError("unfreeze must be a fraction in (0, 1] or the name of a layer")
    return Phase(
        strategy="top",
        unfreeze=unfreeze,
        epochs=epochs,
        lr=lr,
        batch_norm=batch_norm,
        optimizer=optimizer,
        schedule=schedule,
        loss=loss,
        augment=augment,
        views=views,
        image_size=image_size,
    )
