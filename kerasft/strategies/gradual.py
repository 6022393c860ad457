"""`gradual(...)`: the backbone is unfrozen from the head down, one part more with each phase."""

from typing import Any

from kerasft.strategies.phase import Phase, takes_attributes


@takes_attributes()
def gradual(
    stages: int = 4, epochs: int = 2, lr: float = 1e-4, stage: int | None = None, **attributes: Any
) -> Phase | tuple[Phase, ...]:
    """Gradual unfreezing (ULMFiT, Howard & Ruder 2018, section 3.3): stage k of n trains the last k / n of the blocks.

    Each stage is a phase: it is judged, and what of it does not help is undone before the next one begins.

    Args:
        stages: n, at least 2; the last one trains all blocks.
        epochs: of each stage.
        stage: k, for this stage alone, in 1..n; by default all of them, in order.

    Raises:
        ValueError: fewer than two stages, or a stage that is none of them.
    """
    if type(stages) is not int or stages < 2:
        raise ValueError("stages must be a whole number of at least 2")
    if stage is None:
        return tuple(gradual(stages, epochs, lr, each, **attributes) for each in range(1, stages + 1))
    if type(stage) is not int or not 1 <= stage <= stages:
        raise ValueError(f"stage must be a whole number from 1 to {stages}")
    return Phase(
        strategy="gradual",
        arguments={"stages": stages, "stage": stage},
        unfreeze=stage / stages,
        epochs=epochs,
        lr=lr,
        **attributes,
    )
