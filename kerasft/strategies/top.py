"""`top(...)`: the head and the last blocks of the backbone train."""

from typing import Any

from kerasft.settings.spec import Spec
from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes()
def top(
    unfreeze: float | str = 0.5, epochs: int = 5, lr: float = 1e-4, batch_norm: str = "hold", **attributes: Any
) -> Phase:
    """The head and the end of the backbone, as in Yosinski et al. 2014.

    Args:
        unfreeze: a fraction of the backbone's blocks in (0, 1], or the name of the first layer that trains.

    Raises:
        ValueError: `unfreeze` is neither a fraction in its range nor a name.
    """
    # A layer's name may stand without quotes.
    unfreeze = str(unfreeze) if isinstance(unfreeze, Spec) else unfreeze
    number = isinstance(unfreeze, (int, float)) and not isinstance(unfreeze, bool)
    if not (0 < unfreeze <= 1 if number else isinstance(unfreeze, str)):
        raise ValueError("unfreeze must be a fraction in (0, 1] or the name of a layer")
    arguments = {"unfreeze": unfreeze}
    given = {"arguments": arguments, "epochs": epochs, "lr": lr, "batch_norm": batch_norm}
    return Phase(strategy="top", unfreeze=unfreeze, **given, **attributes)
