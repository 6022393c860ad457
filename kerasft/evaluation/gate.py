"""A new model beside a served one (`--baseline`), image by image, and the rule of `--gate`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kerasft.evaluation import intervals, paired
from kerasft.evaluation.pinball import judged_errors
from kerasft.evaluation.score_names import score_name

# The gate judges a class by at least so many test images.
MIN_CLASS_IMAGES = 10
# Something is worse if its paired difference is beyond so many of its standard errors.
MAX_STANDARD_ERRORS = 1.0

# At most so many images that flipped are named in `metrics.json`, of each direction.
MAX_LISTED = 100


class Side(NamedTuple):
    """What one of the two models says of the test images.

    Attributes:
        answers: probabilities float [N, C], or values float [N, D].
        losses: float64 [N].
        predicted: under multi_label, bool [N, C]: the labels that it gives; else None.
    """

    answers: np.ndarray
    losses: np.ndarray
    predicted: np.ndarray | None = None


class Both(NamedTuple):
    """The test images, and what the baseline (`before`) and the new model (`after`) say of them.

    Attributes:
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D].
        groups: [N], equal for images that belong together; else None.
    """

    ids: np.ndarray
    labels: np.ndarray
    before: Side
    after: Side
    groups: np.ndarray | None = None


def compare(
    task: str,
    classes: tuple[str, ...],
    both: Both,
    score: Callable[[np.ndarray], float],
    units: np.ndarray | None,
    quantile: float | None = None,
) -> dict[str, Any]:
    """Compares the two models, and applies the rule of `--gate`.

    The rule: nothing may be worse by more than `MAX_STANDARD_ERRORS` standard errors of its paired difference. It is applied
    to the accuracy (single_label), to the loss, and to each class with at least `MIN_CLASS_IMAGES` test images. A class is
    judged by the accuracy on its images; under multi_label by the decisions about it on all images, if so many have it;
    under regression a target is judged by its absolute error, or by its pinball loss where a quantile is predicted. Images
    of one group are no independent draws: the standard error is that of groups. Equal answers are never worse.

    Args:
        score: from answers to the score of the task.
        units: float [D], by which errors of several targets are divided; else None.
        quantile: that the values are to be; None for the mean or the median.

    Returns:
        For `metrics.json`: `n`, `same` (equal answers), `before` and `after` (score and loss), `difference` and
        `loss_difference` (value, low, high; 95 %), `classes`, `lost` and `gained` (right before, wrong now; and the
        reverse), `lost_images` and `gained_images` (the largest change of the loss first), and `gate`.
    """
    name, key = score_name(task, quantile), "values" if task == "regression" else "probabilities"
    sides = [both.before, both.after]
    known = {"ids": both.ids, "labels": both.labels} | ({} if both.groups is None else {"groups": both.groups})
    arrays = [{**known, key: side.answers, "losses": side.losses} for side in sides]
    found = paired.compare(task, *arrays, units, quantile)
    before, after = ({name: score(side.answers), "loss": float(side.losses.mean())} for side in sides)
    rows = dict(class_rows(task, classes, both, quantile))
    # The same probabilities may still be decided by other thresholds.
    same = found.same and np.array_equal(both.before.predicted, both.after.predicted)
    if same:
        # What is left is rounding, which may have one direction in all images.
        rows = {name: row | {"worse": False} for name, row in rows.items()}
    lost, gained = flips(task, both)
    return {
        "n": found.n,
        "same": found.same,
        "before": before,
        "after": after,
        "difference": paired.as_json(found.score),
        "loss_difference": paired.as_json(found.loss),
        "classes": rows,
        "lost": len(lost),
        "gained": len(gained),
        "lost_images": both.ids[lost[:MAX_LISTED]].tolist(),
        "gained_images": both.ids[gained[:MAX_LISTED]].tolist(),
        "gate": gate(task, both, rows, same, quantile),
    }


def gate(
    task: str, both: Both, rows: Mapping[str, dict], same: bool = False, quantile: float | None = None
) -> dict[str, Any]:
    """Applies the rule of `compare` to the rows of `class_rows`: `passed`, the `rule`, and the rows that break it as `reasons`."""
    n, groups = len(both.ids), both.groups
    overall = {"loss": _row(-both.before.losses, -both.after.losses, n, groups, sign=-1.0, minimum=2)}
    if task == "single_label":
        right = [_right(task, both.labels, side) for side in (both.before, both.after)]
        overall = {"accuracy": _row(*right, n, groups, minimum=2), **overall}
    error = "absolute error" if quantile is None else "pinball loss"
    named = f"{error} of '{{}}'" if task == "regression" else "accuracy of class '{}'"
    judged = {named.format(name): row for name, row in rows.items()}
    found = {} if same else {**overall, **judged}
    reasons = [{"what": what, **row} for what, row in found.items() if row["worse"]]
    rule = {"min_images": MIN_CLASS_IMAGES, "standard_errors": MAX_STANDARD_ERRORS}
    return {"passed": not reasons, "rule": rule, "reasons": reasons}


def class_rows(
    task: str, classes: tuple[str, ...], both: Both, quantile: float | None = None
) -> Iterator[tuple[str, dict]]:
    """Yields the row of each class or target that has a test image; `quantile` as in `compare`."""
    labels, before, after = both.labels, both.before, both.after
    for index, name in enumerate(classes):
        groups = both.groups
        if task == "single_label":
            chosen = labels == index
            pair, n, sign = [_right(task, labels, side)[chosen] for side in (before, after)], int(chosen.sum()), 1.0
            groups = None if groups is None else groups[chosen]
        elif task == "multi_label":
            truth = labels[:, index] > 0
            pair, n, sign = [side.predicted[:, index] == truth for side in (before, after)], int(truth.sum()), 1.0
        else:
            gaps = [labels[:, index].astype(np.float64) - side.answers[:, index] for side in (before, after)]
            pair = [-judged_errors(gap, quantile) for gap in gaps]
            n, sign = len(labels), -1.0
        if len(pair[0]) and n:
            yield name, _row(*pair, n, groups, sign)


def _row(
    before: np.ndarray,
    after: np.ndarray,
    n: int,
    groups: np.ndarray | None = None,
    sign: float = 1.0,
    minimum: int = MIN_CLASS_IMAGES,
) -> dict[str, Any]:
    """A figure of both models, its paired difference and whether it is worse.

    Args:
        before, after: [M] by example; higher is better.
        n: the images that count for the gate.
        groups: [M] of the examples, or None.
        sign: -1 for a figure that is shown as a loss, of which less is better.
        minimum: images from which the gate judges it.
    """
    gaps = after.astype(np.float64) - before
    error = intervals.standard_error(gaps, groups)
    if not np.isfinite(error):
        # A single group has no error of its own. The gate does not pass for it what images alone would refuse.
        error = intervals.standard_error(gaps)
    # A single example among many has a difference of one standard error, up to rounding.
    worse = n >= minimum and -gaps.mean() > MAX_STANDARD_ERRORS * error * (1 + 1e-9)
    return {
        "n": n,
        "before": sign * float(before.mean()),
        "after": sign * float(after.mean()),
        "difference": sign * float(gaps.mean()),
        "standard_error": float(error) if np.isfinite(error) else None,
        "worse": bool(worse),
    }


def flips(task: str, both: Both) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the test images that only the baseline has right, and of those that only the new model has right.

    The largest change of the loss comes first. Under multi_label an image is right if all its labels are; under regression
    nothing is right or wrong.
    """
    if task == "regression":
        return np.zeros(0, int), np.zeros(0, int)
    before, after = (_right(task, both.labels, side) for side in (both.before, both.after))
    change = both.after.losses - both.before.losses
    lost, gained = np.flatnonzero(before & ~after), np.flatnonzero(after & ~before)
    return lost[np.argsort(-change[lost], kind="stable")], gained[np.argsort(change[gained], kind="stable")]


def _right(task: str, labels: np.ndarray, side: Side) -> np.ndarray:
    if task == "single_label":
        return side.answers.argmax(-1) == labels
    return (side.predicted == (labels > 0)).all(-1)
