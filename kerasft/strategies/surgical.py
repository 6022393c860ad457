"""`surgical(...)`: the head and those blocks of the backbone train that the training images pull at most."""

from typing import Any

from kerasft.settings.spec import Spec
from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes()
def surgical(
    blocks: int = 1, epochs: int = 5, lr: float = 1e-4, layers: str | tuple | None = None, **attributes: Any
) -> Phase:
    """Surgical fine-tuning (Lee et al. 2023): the blocks of the highest |gradient| / |weights| train, as in Auto-RGN.

    The ratio is measured when the phase begins (`training/block_choice.py`). A network that was trained on other images
    than these may need its first blocks most, where the pixels differ, or its last ones, where the classes do.

    Args:
        blocks: how many; all of them where there are fewer.
        layers: the first layers of the blocks, joined by |. By default they are chosen when the phase begins.

    Raises:
        ValueError: `blocks` is no whole number of at least 1, or `layers` has no names, or more than `blocks`.
    """
    if type(blocks) is not int or blocks < 1:
        raise ValueError("blocks must be a whole number of at least 1")
    given = layers if isinstance(layers, tuple) else (layers,)
    if layers is not None and not (given and all(isinstance(one, Spec | str) for one in given)):
        raise ValueError("layers must be names of layers joined by |, one at least")
    chosen = None if layers is None else tuple(map(str, given))
    if chosen is not None and len(chosen) > blocks:
        raise ValueError(f"layers must be at most as many as blocks, which is {blocks}")
    named = {} if chosen is None else {"layers": chosen}
    arguments = {"blocks": blocks} | named
    return Phase(strategy="surgical", arguments=arguments, unfreeze=chosen, epochs=epochs, lr=lr, **attributes)
