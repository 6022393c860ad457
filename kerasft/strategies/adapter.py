"""`adapter(...)`: the head and small bottlenecks behind the backbone's blocks train, which stay in the network."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes("views")
def adapter(reduction: float = 8.0, epochs: int = 5, lr: float = 1e-3, **attributes: Any) -> Phase:
    """Bottleneck adapters (Houlsby et al. 2019): x + U gelu(D x + d) + u behind each block, of which D, d, U and u train.

    They are in the network from the start of the run, with U and u zero, so they change nothing until they train.

    Args:
        reduction: channels of a block divided by those of its bottleneck, at least 1.

    Raises:
        ValueError: a reduction below 1.
    """
    if isinstance(reduction, bool) or not isinstance(reduction, (int, float)) or not 1 <= reduction <= 1024:
        raise ValueError("reduction must be a number in [1, 1024]")
    arguments = {"reduction": float(reduction)}
    given = {"arguments": arguments, "variables": "adapter", "epochs": epochs, "lr": lr}
    return Phase(strategy="adapter", unfreeze=1.0, **given, **attributes)
