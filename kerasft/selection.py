"""What a phase leaves behind: a mix of its weights with those before it, chosen on validation, or nothing of it."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from kerasft.evaluate import Judge, most_cautious

SHARES = (0.25, 0.5, 0.75, 1.0)  # of a phase's weights in the mixes that are tried
LEAST_GAIN = 1e-3  # of the validation loss before a phase, for anything of it to be kept
LEAST_ERRORS = 0.5  # standard errors of that gain: the best of many epochs and mixes looks better by chance

Weights = list[np.ndarray]


class Choice(NamedTuple):
    """What is kept.

    Attributes:
        share: of the phase's weights; 0 where it is undone.
        temperature: by which the logits are divided.
        score: loss and headline score on validation; None where it is undone.
    """

    share: float
    temperature: float
    score: tuple[float, float] | None


UNDONE = Choice(0.0, 1.0, None)


def settle(
    model: keras.Model,
    outputs: Callable[[], np.ndarray],
    judge: Judge,
    first: Weights,
    last: Weights | None,
    shares: tuple[float, ...],
) -> Choice:
    """Gives a model the mix of first and last weights that `choose` takes, its temperature folded into `logits`.

    Args:
        outputs: of the validation split, with the model's weights as they are.
        last: None where nothing is to be kept.
    """

    def outputs_at(share: float) -> np.ndarray:
        model.set_weights(mixed(first, last, share))
        return outputs()

    chosen = choose(outputs_at, judge, shares) if last else UNDONE
    model.set_weights(mixed(first, last or first, chosen.share))
    if chosen.temperature != 1:
        layer = model.get_layer("logits")
        layer.set_weights([value / chosen.temperature for value in layer.get_weights()])
    return chosen


def mixed(first: Weights, last: Weights, share: float) -> Weights:
    """The weights this share of the way from first to last; the ends to the bit."""
    if share in (0, 1):
        return last if share else first
    return [(1 - share) * a + share * b for a, b in zip(first, last)]


def choose(outputs_at: Callable[[float], np.ndarray], judge: Judge, shares: tuple[float, ...]) -> Choice:
    """Chooses the share of a phase's weights by the validation loss.

    Weights on the line between a phase's start and its best epoch are often better than both ends (WiSE-FT,
    Wortsman et al. 2022), and fine-tuned networks are too sure of themselves, so each mix is also tried with its
    logits divided by the temperature that suits it (Guo et al. 2017). Few validation pictures tell such candidates
    apart badly: of those that beat the weights before, the most cautious one that is not measurably worse than the
    best is taken, and undone after all if its gain drowns in its standard error. The weights before are given their
    best temperature too: that alone is no merit of the phase.

    Args:
        outputs_at: from a share to float [N, ...], the validation outputs of that mix.
        judge: of the validation split.
        shares: to try, rising, each in (0, 1].
    """

    def heated(share: float) -> list[tuple[float, float, np.ndarray]]:
        outputs = outputs_at(share)
        heats = (1.0,) if judge.task == "regression" else (1.0, judge.temperature(outputs))
        return [(share, heat, outputs / heat) for heat in heats]

    before = min((judge.losses(outputs) for _, _, outputs in heated(0.0)), key=np.mean)
    bar = (1 - LEAST_GAIN) * before.mean()
    tried = [row for share in shares for row in heated(share) if judge.loss(row[2]) < bar]
    if not tried:
        return UNDONE
    share, heat, outputs = tried[most_cautious([judge.losses(row[2]) for row in tried])]
    gain = before - judge.losses(outputs)
    if gain.mean() < LEAST_ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)):
        return UNDONE
    return Choice(share, heat, (judge.loss(outputs), judge.score(outputs)))
