"""Whether mirroring is harmless: what has to be shown before `--augment=auto` mirrors images.

A probe whose loss is the same on mirrored images proves nothing where it knows nothing. So it first has to know the
classes, or the targets, and then to know them in the mirror.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerasft.evaluation import intervals
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer

# The level of each one-sided t-test.
LEVEL = 0.05
# A probe knows something if its loss is measurably below this share of a constant answer's: a trace of knowledge says
# nothing about what is not known.
KNOWN = 0.9
# The greatest ratio of the losses on mirrored and on plain images.
COST = 1.25


class Verdict(NamedTuple):
    """Whether mirroring was shown to be harmless, and why or why not, in half a sentence."""

    harmless: bool
    reason: str


class _Question(NamedTuple):
    """Something that the probe has to know: losses float64 [n] of the images in question, and of a constant answer.

    Attributes:
        words: what is to be known.
        group: the class or target that it is about.
        plain, mirrored: the probe's losses.
        constant: a constant answer's losses, float64 [n].
    """

    words: str
    group: str
    plain: np.ndarray
    mirrored: np.ndarray
    constant: np.ndarray


def verdict(
    scorer: Scorer, plain: np.ndarray, mirrored: np.ndarray, labels: np.ndarray, constant: np.ndarray, names: tuple
) -> Verdict:
    """Asks whether a probe knows each class or target, on plain and on mirrored validation images.

    A class is known if the probe distinguishes it from each other class, a label also from its absence, and a target if its error is
    below that of the mean. "Measurably" is a one-sided t-test at `LEVEL`.

    Args:
        scorer: of the validation split.
        plain, mirrored: float [N, C], the probe's outputs for its images as they are and mirrored.
        labels: of the training split, in the form of its task.
        constant: float [C], the best constant answer: log frequencies, log odds or means of the training labels.
        names: of the classes or targets.
    """
    if not (np.isfinite(plain).all() and np.isfinite(mirrored).all()):
        return Verdict(False, "the probe's answers are not finite")
    ask = {"single_label": _classes, "multi_label": _labels, "regression": _targets}[scorer.task]
    questions = list(ask(scorer, plain, mirrored, labels, constant, names))
    for question in questions:
        if (count := len(question.plain)) < MIN_VALIDATION_IMAGES:
            found = f"{count} validation image{'s' * (count != 1)}"
            return Verdict(
                False, f"{found} cannot show that the probe {question.words} (needed: {MIN_VALIDATION_IMAGES})"
            )
    for question in questions:
        if not _positive(KNOWN * question.constant - question.plain):
            return Verdict(False, f"the probe {question.words} not measurably better than a constant answer")
    cost = scorer.loss(mirrored) / max(scorer.loss(plain), 1e-3)
    said = f"on mirrored images the probe's loss is {cost:.2f} times as high"
    if cost > COST:
        return Verdict(False, said)
    groups = dict(_by_group(scorer, plain, mirrored, names))
    for name, rise in groups.items():
        # So many classes are looked at that one of them rises by chance.
        if len(rise) >= MIN_VALIDATION_IMAGES and _positive(rise, LEVEL / len(groups)):
            return Verdict(False, f"on mirrored images of '{name}' the probe's loss is measurably higher")
    if scorer.task != "regression" and _positive(scorer.losses(mirrored) - scorer.losses(plain)):
        return Verdict(False, f"{said}, which is measurable")
    for question in questions:
        if not _positive(KNOWN * question.constant - question.mirrored):
            return Verdict(False, f"on mirrored images the probe {question.words} not measurably better than by chance")
    return Verdict(True, said)


def _positive(values: np.ndarray, level: float = LEVEL) -> bool:
    """Whether a mean is measurably above 0."""
    from scipy.stats import t

    error = intervals.standard_error(values)
    return bool(values.mean() > t.ppf(1 - level, len(values) - 1) * error)


def _softplus(values: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, values)


def _beyond(scorer: Scorer, plain: np.ndarray, mirrored: np.ndarray, constant: np.ndarray) -> list[np.ndarray]:
    """Logits beyond a constant answer's, as sure as suits the validation images: 0 where nothing is known."""
    temperature = scorer.temperature(plain)
    return [(outputs.astype(np.float64) - constant) / temperature for outputs in (plain, mirrored)]


def _classes(scorer, plain, mirrored, labels, constant, names) -> Iterator[_Question]:
    plain, mirrored = _beyond(scorer, plain, mirrored, constant)
    for c, name in enumerate(names):
        rows = scorer.labels == c
        losses = [_softplus(logits[rows] - logits[rows, c : c + 1]) for logits in (plain, mirrored)]
        for d, other in enumerate(names):
            if d != c:
                words = f"tells '{name}' from '{other}'"
                yield _Question(words, name, *(found[:, d] for found in losses), np.full(rows.sum(), np.log(2)))


def _labels(scorer, plain, mirrored, labels, constant, names) -> Iterator[_Question]:
    both = _beyond(scorer, plain, mirrored, constant)
    truth, trained = scorer.labels > 0.5, labels > 0.5
    for c, name in enumerate(names):
        if not 0 < trained[:, c].sum() < len(trained):
            continue  # nothing can be learnt of it
        for rows, sign in ((truth[:, c], -1), (~truth[:, c], 1)):
            losses = [_softplus(sign * logits[rows, c]) for logits in both]
            words = f"tells '{name}' from its absence"
            yield _Question(words, name, *losses, np.full(rows.sum(), np.log(2)))
        for d, other in enumerate(names):
            if d != c and trained[:, d].any() and (trained[:, c] & ~trained[:, d]).any():
                rows = truth[:, c] & ~truth[:, d]
                losses = [_softplus(logits[rows, d] - logits[rows, c]) for logits in both]
                yield _Question(f"tells '{name}' from '{other}'", name, *losses, np.full(rows.sum(), np.log(2)))


def _targets(scorer, plain, mirrored, labels, constant, names) -> Iterator[_Question]:
    answer = np.broadcast_to(constant, scorer.labels.shape)
    errors = [scorer.errors(outputs).T for outputs in (plain, mirrored, answer)]
    for name, *found in zip(names, *errors):
        yield _Question(f"knows '{name}'", name, *found)


def _by_group(
    scorer: Scorer, plain: np.ndarray, mirrored: np.ndarray, names: tuple
) -> Iterator[tuple[str, np.ndarray]]:
    """By how much the loss rises in the mirror, by class, label or target."""
    if scorer.task == "regression":
        yield from zip(names, (scorer.errors(mirrored) - scorer.errors(plain)).T)
        return
    rise = scorer.losses(mirrored) - scorer.losses(plain)
    for c, name in enumerate(names):
        yield name, rise[scorer.labels == c if scorer.task == "single_label" else scorer.labels[:, c] > 0.5]
