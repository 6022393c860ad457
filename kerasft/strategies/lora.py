"""`lora(...)`: the head and low-rank updates of the backbone's kernels train."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes("views")
def lora(rank: int = 8, alpha: float = 16.0, epochs: int = 5, lr: float = 1e-3, **attributes: Any) -> Phase:
    """LoRA (Hu et al. 2022): W + (alpha / rank) A B, of which A and B train, and W, biases and normalisation do not.

    Dense layers and all convolutions but depthwise ones get an update, where it has fewer values than the kernel. At the end
    of the phase the updates are added to the kernels, so the network is the same as before, with other values.

    Args:
        rank: columns of A and rows of B.
        alpha: above 0; more of it is a higher learning rate of the updates.

    Raises:
        ValueError: a rank or an alpha out of its range.
    """
    if type(rank) is not int or rank < 1:
        raise ValueError("rank must be a whole number of at least 1")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha <= 10_000:
        raise ValueError("alpha must be a number in (0, 10000]")
    arguments = {"rank": rank, "alpha": float(alpha)}
    given = {"arguments": arguments, "variables": "lora", "epochs": epochs, "lr": lr}
    return Phase(strategy="lora", unfreeze=1.0, **given, **attributes)
