"""`quantised(...)`: all weights but statistics train while the network computes in 8 bits, so that its int8 artefact loses less."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes

# Fractions of the way from the weights before the phase to those at its end, the preferred one first. The weights at its end are
# adapted to being rounded. A mix of both lies off the int8 grid, and is rounded once more.
ALPHAS = (1.0, 0.75, 0.5, 0.25)


@takes_attributes("views", "batch_norm")
def quantised(epochs: int = 3, lr: float = 1e-4, **attributes: Any) -> Phase:
    """Quantisation-aware training (Jacob et al. 2018; Krishnamoorthi 2018): the forward pass is that of int8.

    Kernels, biases, and scales and offsets of normalisation train; the statistics of BatchNormalization stay. Validation
    scores the network as int8 computes it, before and after the phase. What is kept has float32 kernels that lie on the int8 grid.

    Args:
        epochs: at least 1.
        lr: the highest rate. It has to move weights by whole numbers of the grid (docs/quantisation.md), and was not tuned.
    """
    given = {"variables": "quantised", "epochs": epochs, "lr": lr, "alphas": ALPHAS}
    return Phase(strategy="quantised", unfreeze=1.0, **given, **attributes)
