"""What a phase leaves behind: a mix of its weights with those before it, chosen on validation, or nothing of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np

from kerasft.evaluation import intervals
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer, one_standard_error_rule
from kerasft.networks import layer_names
from kerasft.strategies.phase import Phase

# Anything of a phase is kept only if it gains this share of the validation loss before it.
MIN_RELATIVE_GAIN = 1e-3
# And this many standard errors of that gain: the best of several mixes looks better by chance.
MIN_GAIN_IN_STANDARD_ERRORS = 0.25

# A phase is losing if its best mix is behind the weights before it by so many standard errors of the difference.
LOSING_STANDARD_ERRORS = 1.0

# A phase under `stop_if_losing` is judged after this fraction of its epochs.
LOSING_FRACTION = 1 / 3

Weights = list[np.ndarray]


class KeptWeights(NamedTuple):
    """What is kept.

    Attributes:
        alpha: of the phase's weights; 0 where it is undone.
        temperature: by which the logits are divided.
        score: loss and headline score on validation; None where it is undone.
        candidate: which of the phase's ends.
        refused: where it is undone, the mix that was judged: its share of the way (`share`), its loss and score on validation
            (`loss`, `score`), and the highest loss that would have been kept (`needed`).
    """

    alpha: float
    temperature: float
    score: tuple[float, float] | None
    candidate: int = 0
    refused: dict[str, float] | None = None


UNDONE = KeptWeights(0.0, 1.0, None)


def keep_best(
    model: keras.Model,
    outputs: Callable[[], np.ndarray],
    scorer: Scorer,
    first: Weights,
    candidates: list[Weights],
    alphas: tuple[float, ...],
    *,
    may_undo: bool = True,
) -> KeptWeights:
    """Gives a model the mix of its first weights and an end that `choose` takes, its temperature folded into `logits`.

    Args:
        outputs: of the validation split, with the model's weights as they are.
        candidates: weights that the phase came to, the preferred ones first; none where nothing is to be kept.
        may_undo: whether the first weights are an answer (`PhaseRun.may_undo`).
    """

    def outputs_at(candidate: int, alpha: float) -> np.ndarray:
        model.set_weights(mixed(first, candidates[candidate], alpha))
        return outputs()

    chosen = choose(outputs_at, scorer, len(candidates), alphas, may_undo=may_undo) if candidates else UNDONE
    model.set_weights(mixed(first, candidates[chosen.candidate] if candidates else first, chosen.alpha))
    if chosen.temperature != 1:
        layer = model.get_layer(layer_names.LOGITS)
        layer.set_weights([value / chosen.temperature for value in layer.get_weights()])
    return chosen


def mixed(first: Weights, last: Weights, alpha: float) -> Weights:
    """The weights this share of the way from first to last; the ends to the bit."""
    if alpha in (0, 1):
        return last if alpha else first
    # What did not train stays as it is, to the bit.
    return [a if np.array_equal(a, b) else (1 - alpha) * a + alpha * b for a, b in zip(first, last)]


def choose(
    outputs_at: Callable[[int, float], np.ndarray],
    scorer: Scorer,
    candidates: int,
    alphas: tuple[float, ...],
    *,
    may_undo: bool = True,
) -> KeptWeights:
    """Chooses the end and the share of a phase's weights by the validation loss.

    Weights on the line between a phase's start and its end are often better than both (WiSE-FT, Wortsman et al. 2022),
    and fine-tuned networks are too sure of themselves, so each mix has its logits divided by the temperature that
    suits it (Guo et al. 2017). Few validation images tell such candidates apart badly: the first share that is not
    measurably worse than the best is taken, and the first end likewise. The phase is undone if the gain is below a
    quarter of its standard error. The weights before are given their best temperature too: that alone is no merit of the phase.
    Fewer than `MIN_VALIDATION_IMAGES` tell nothing apart: the first end is taken whole (`train_setup.judgeable` leaves only a phase that
    has nothing to be compared with).

    Args:
        outputs_at: from an end and a share to float [N, ...], the validation outputs of that mix.
        scorer: of the validation split.
        candidates: their number.
        alphas: to try, the preferred ones first, each in (0, 1].
        may_undo: as in `keep_best`.
    """

    def tempered(candidate: int, alphas: tuple[float, ...] = alphas) -> Iterator[tuple[KeptWeights, np.ndarray]]:
        for alpha in alphas:
            outputs = outputs_at(candidate, alpha)
            if np.isfinite(outputs).all():
                temperature, losses = scorer.calibrated_losses(outputs)
                yield KeptWeights(alpha, temperature, (float(losses.mean()), scorer.score(outputs)), candidate), losses

    if len(scorer.labels) < MIN_VALIDATION_IMAGES:
        return next((choice for candidate in range(candidates) for choice, _ in tempered(candidate, (1.0,))), UNDONE)
    _, before = scorer.calibrated_losses(outputs_at(0, 0.0))
    found = []
    for candidate in range(candidates):
        mixes = list(tempered(candidate))
        found += [mixes[one_standard_error_rule([losses for _, losses in mixes])]] if mixes else []
    if not found:
        return UNDONE
    chosen, losses = found[one_standard_error_rule([losses for _, losses in found])]
    gain = before - losses
    least = max(MIN_RELATIVE_GAIN * before.mean(), MIN_GAIN_IN_STANDARD_ERRORS * intervals.standard_error(gain))
    if gain.mean() >= least or not may_undo:
        return chosen
    loss, score = chosen.score
    refused = {"share": chosen.alpha, "loss": loss, "score": score, "needed": float(before.mean() - least)}
    return UNDONE._replace(refused=refused)


def is_losing(
    model: keras.Model, outputs: Callable[[], np.ndarray], scorer: Scorer, first: Weights, last: Weights, phase: Phase
) -> bool:
    """Whether a phase that is under way would be undone, and not by a hair: futility stopping, as of clinical trials.

    The model has its own weights again afterwards. Fewer than `MIN_VALIDATION_IMAGES` tell nothing.

    Args:
        outputs: of the validation split, with the model's weights as they are.
        first, last: weights before the phase and those that it has come to.
    """
    if len(scorer.labels) < MIN_VALIDATION_IMAGES:
        return False
    own = model.get_weights()

    def losses_at(alpha: float) -> np.ndarray:
        model.set_weights(mixed(first, last, alpha))
        return scorer.calibrated_losses(outputs())[1]

    before = losses_at(0.0)
    gains = [before - losses_at(alpha) for alpha in phase.alphas]
    model.set_weights(own)
    errors = [gain.mean() / max(intervals.standard_error(gain), 1e-12) for gain in gains]
    return bool(max(np.nan_to_num(errors, nan=-np.inf)) < -LOSING_STANDARD_ERRORS)


def judgeable(planned: list[Phase], images: int, *, solved: bool) -> list[Phase]:
    """The phases that so many validation images can judge: all, or with fewer than `MIN_VALIDATION_IMAGES` hardly any.

    A solved head needs no judge, and nothing is trained after it. Without one the first phase stands: it has to give an
    answer at all.

    Args:
        planned: the phases of a run; a head phase first where the head is solved.
        images: of the validation split.
        solved: whether the head is solved.
    """
    if images >= MIN_VALIDATION_IMAGES:
        return planned
    return [replace(planned[0], epochs=0)] if solved else planned[:1]
