"""`head(...)`: the head trains, the whole backbone is frozen."""

from typing import Any

from kerasft.strategies.phase import HEAD_LR, Phase, takes_attributes


@takes_attributes("batch_norm", "image_size", "conditional", "stop_if_losing", "layer_decay", "head_lr")
def head(epochs: int | None = None, lr: float = HEAD_LR, **attributes: Any) -> Phase:
    """The head alone, as in linear probing.

    Args:
        epochs: by default 0 under `--head_init=probe`, which has solved the head, else 5.
    """
    return Phase(strategy="head", unfreeze=0.0, epochs=epochs, lr=lr, **attributes)
