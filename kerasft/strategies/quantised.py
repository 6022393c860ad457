"""`quantised(...)`: all layers train while the network computes in 8 bits, so that its int8 artefact loses less."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes

# The phase adapts weights to being rounded. So the end of it stands first: a mix with the weights before is rounded anew.
ALPHAS = (1.0, 0.75, 0.5, 0.25)


@takes_attributes("views", "batch_norm")
def quantised(epochs: int = 3, lr: float = 1e-4, **attributes: Any) -> Phase:
    """Quantisation-aware training (Jacob et al. 2018; Krishnamoorthi 2018): the forward pass is that of int8.

    Kernels, biases, and scales and offsets of normalisation train; the statistics of BatchNormalization stay. The phase
    is judged as int8 computes, before and after. What is kept has kernels of whole multiples of 8 bits, in float32.
    """
    given = {"variables": "quantised", "epochs": epochs, "lr": lr, "alphas": ALPHAS}
    return Phase(strategy="quantised", unfreeze=1.0, **given, **attributes)
