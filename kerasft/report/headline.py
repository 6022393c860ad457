"""The headline of a report: the test score, its 95 % interval, and what it means in plain sentences.

Each task has a function. It takes the test metrics of `metrics.json`, the arrays of `predictions.npz`, the names of the
classes or targets, and the Caveats. It returns a dict with `figure` (the score as text), `value` (as a number), `name`, `low`, `high`,
`sentences` and `svg` (the drawn interval). Without an interval, `low` and `high` are None, and `svg` is empty. Without a score
`value` is None too.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kerasft.console.wording import NOT_MEASURED, count, join_names, number, percent
from kerasft.evaluation.pinball import asked_quantile
from kerasft.evaluation.score_interval import ScoreInterval, score_interval, value_errors
from kerasft.evaluation.score_names import formatter
from kerasft.evidence import figures

# With fewer test images a sentence says that the interval is wide.
FEW_TEST_IMAGES = 200
# Kinds of findings that name an image which is in two splits.
SHARED_KINDS = ("duplicate_across_splits", "leak")


_NO_INTERVAL = {"value": None, "low": None, "high": None, "svg": ""}


class Caveats(NamedTuple):
    """What limits the meaning of the test score: findings of the audit, and teachers that know test images.

    Attributes:
        shared: scored test images of which a copy, nearly the same image, or one of the same group is in another split.
        left_out: test images that were not scored, because they are in another split too.
        missing: classes or labels without a test image.
        learned: teachers (`--teacher`) that have learned test images, each with their number.
    """

    shared: int = 0
    left_out: int = 0
    missing: tuple[str, ...] = ()
    learned: tuple[tuple[str, int], ...] = ()


def find_caveats(metrics: dict, audit: dict, ids: np.ndarray) -> Caveats:
    """Returns the Caveats of a test split.

    Args:
        metrics: as in `metrics.json`.
        audit: as in `audit.json`.
        ids: str [N], the test images that were scored.
    """
    scored = set(ids.tolist())
    pairs = [_pair(row) for row in audit["findings"] if row["kind"] in SHARED_KINDS]
    shared = {name for pair in pairs for name in pair if name in scored}
    counts = audit["counts"].get("test", {})
    missing = tuple(name for name, number in counts.items() if not number)
    taught = (metrics.get("settled", {}).get("teacher") or {}).get("members", [])
    learned = tuple((row["path"], row["learned_test_images"]) for row in taught if row.get("learned_test_images"))
    return Caveats(len(shared), metrics["test"].get("excluded_copies", 0), missing, learned)


def _pair(finding: dict) -> tuple[str, str]:
    """Returns the names of the two images of a finding: its path, and the name after " as " in its detail."""
    return finding["path"], finding["detail"].partition(" as ")[2].removesuffix(", under another label")


def single_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Accuracy with Wilson's interval. Without skill means always answering the most frequent class."""
    n, accuracy = test["n"], test["accuracy"]
    right = round(accuracy * n)
    score = score_interval("single_label", test, arrays, classes)
    counts = np.bincount(arrays["labels"], minlength=len(classes))
    no_skill = float(counts.max() / n)
    guess = f"Always answering “{classes[int(counts.argmax())]}”, the most frequent class, would be right on {percent(no_skill)}"
    sentences = [
        f"{right:,} of {count(n, 'test image')}{_describe_sample(caveats)} got the right label.",
        _expected(score, arrays, percent),
        *_against(guess, score, no_skill, n),
        *_limitations(caveats),
    ]
    return _headline(percent(accuracy), "accuracy", score, sentences, n, 1.0, no_skill)


def multi_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Mean average precision with a bootstrap interval over the images. Without skill means a random ranking."""
    n, labels = test["n"], arrays["labels"]
    exact_match = f"On {percent(test['exact_match'])} of the images all labels were right."
    if not labels.any():
        sentences = [f"None of {count(n, 'test image')} has a label, so nothing can be ranked.", exact_match]
        return {"figure": NOT_MEASURED, "name": "mean average precision", "sentences": sentences} | _NO_INTERVAL
    score = score_interval("multi_label", test, arrays, classes)
    no_skill = _random_ranking(labels)
    sentences = [
        "This says how well the images of each label are ranked before all others: 1 is perfect. "
        f"Measured on {count(n, 'test image')}{_describe_sample(caveats).rstrip(',')}.",
        _expected(score, arrays, number),
        *_against(f"A random ranking would reach {number(no_skill)} on average", score, no_skill, n),
        exact_match,
        *_limitations(caveats),
    ]
    return _headline(number(test["map"]), "mean average precision", score, sentences, n, 1.0, no_skill)


def _random_ranking(labels: np.ndarray) -> float:
    """The expected mean average precision of a random ranking. With few positives it is far more than their share.

    Of n images with P positives it is H/n + (P-1)/(n-1) (1 - H/n), with H the n-th harmonic number: a positive at a place
    counts itself, and its share of the others before it.
    """
    n, positives = len(labels), (labels > 0).sum(0)
    own = float((1 / np.arange(1, n + 1)).sum()) / n
    return float((own + (positives[positives > 0] - 1) / max(n - 1, 1) * (1 - own)).mean())


def regression(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Mean absolute error with its interval. Without skill means always answering the median.

    The error of a single target is in its units. With several targets, which may have different units, each error is
    divided by the standard deviation of its target. Where a quantile is predicted, it is judged by the mean pinball loss.
    """
    if (quantile := asked_quantile(test)) is not None:
        return _quantile(test, arrays, classes, caveats, quantile)
    n = test["n"]
    score = score_interval("regression", test, arrays, classes)
    no_skill = _constant_error(test, arrays, classes)
    several = len(classes) > 1
    if several:
        shown = [f"“{name}” {number(test['per_target'][name]['mae'])}" for name in classes[:4]]
        rest = [f"and {len(classes) - 4} more in the table below"] if len(classes) > 4 else []
        first = f"Mean absolute errors: {', '.join(shown + rest)}, each in its own units."
        what = f"In units of each value’s standard deviation that is {number(score.value)}"
    else:
        first, what = f"The answers for “{classes[0]}” are off by that much on average", ""
    on = f"on {count(n, 'test image')}{_describe_sample(caveats).rstrip(',')}."
    guess = f"Always answering the median of the true values would be off by {number(no_skill)}"
    sentences = [
        *([first, f"{what}, {on}"] if several else [f"{first}, {on}"]),
        _expected(score, arrays, number),
        *_against(guess, score, no_skill, n, less_is_better=True),
        _explained_variation(test, classes),
        *_limitations(caveats),
    ]
    name = "mean absolute error" + (" in deviations" if several else "")
    end = 1.1 * max(no_skill, score.high or 0.0)
    return _headline(number(score.value), name, score, sentences, n, end, no_skill)


def _quantile(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats, quantile: float) -> dict:
    """The mean pinball loss of a predicted quantile. Without skill means always answering that quantile of the true values."""
    n, score = test["n"], score_interval("regression", test, arrays, classes, quantile)
    no_skill = _constant_error(test, arrays, classes, quantile)
    units = ", in units of each value’s standard deviation" if len(classes) > 1 else ""
    guess = f"Always answering that quantile of the true values would have {number(no_skill)}"
    sentences = [
        f"The answers are to be at or above {percent(quantile)} of the true values. They are at or above "
        f"{percent(test['coverage'])}, on {count(n, 'test image')}{_describe_sample(caveats).rstrip(',')}.",
        f"The pinball loss is lowest for that quantile{units}.",
        _expected(score, arrays, number),
        *_against(guess, score, no_skill, n, less_is_better=True),
        *_limitations(caveats),
    ]
    end = 1.1 * max(no_skill, score.high or 0.0)
    return _headline(number(score.value), "mean pinball loss", score, sentences, n, end, no_skill)


def _constant_error(
    test: dict, arrays: dict[str, np.ndarray], classes: list[str], quantile: float | None = None
) -> float:
    """The mean error of the best answer that is the same for all images: the median of the true values, or their quantile."""
    labels = arrays["labels"].astype(np.float64)
    method = "linear" if quantile is None else "inverted_cdf"
    constant = np.quantile(labels, 0.5 if quantile is None else quantile, axis=0, method=method)
    same = arrays | {"values": np.broadcast_to(constant, labels.shape)}
    return float(value_errors(test, same, classes, quantile).mean())


def _expected(score: ScoreInterval, arrays: dict[str, np.ndarray], shown: Callable[[float], str]) -> str:
    """The sentence on the interval, or why there is none."""
    groups = arrays.get("groups")
    parts = ""
    if groups is not None:
        parts = f"; images that belong together count as one, so {len(np.unique(groups)):,} of {len(groups):,} count"
    if score.low is None:
        return f"The test images are too few, or too alike, to tell what to expect on others{parts}."
    return (
        f"On other images of this kind expect between {shown(score.low)} and {shown(score.high)} (95% interval{parts})."
    )


def _against(guess: str, score: ScoreInterval, no_skill: float, n: int, less_is_better: bool = False) -> list[str]:
    """The sentence on a guess without skill, with a verdict if there is an interval. One image tells nothing of a guess."""
    if n < 2:
        return []
    if score.low is None:
        return [f"{guess}."]
    above, below = score.low > no_skill, score.high < no_skill
    better, worse = (below, above) if less_is_better else (above, below)
    return [f"{guess}: {_compare_with_no_skill(better, worse)}."]


def _explained_variation(test: dict, classes: list[str]) -> str:
    if test["r2"] is not None:
        return f"The model explains {percent(max(test['r2'], 0.0), 0)} of the variation (R²)."
    flat = join_names([name for name in classes if test["per_target"][name]["r2"] is None])
    return f"All test images have the same true value of {flat}, so there is no variation to explain (R²)."


def _describe_sample(caveats: Caveats) -> str:
    """Says between commas whether the model had seen the test images."""
    if not caveats.shared:
        return f", none of which the model {'itself ' if caveats.learned else ''}had seen,"
    return (
        f", for {caveats.shared:,} of which an image of the same group, or nearly the same image, is in another split,"
    )


def _limitations(caveats: Caveats) -> list[str]:
    """Returns what the test score does not show."""
    sentences = []
    if caveats.shared:
        sentences.append("The model may have been trained on images like these, so the score may be too optimistic.")
    for path, learned in caveats.learned:
        sentences.append(
            f"The teacher {path} has learned {count(learned, 'test image')}, so the score may be too optimistic."
        )
    if caveats.left_out:
        copies = count(caveats.left_out, "test image is a copy", "test images are copies")
        sentences.append(f"{copies} of training or validation images, and not counted.")
    if caveats.missing:
        sentences.append(
            f"The test split has no image of {join_names(list(caveats.missing))}, so the score says nothing about them."
        )
    return sentences


def _headline(
    figure: str, name: str, score: ScoreInterval, sentences: list[str], n: int, end: float, no_skill: float
) -> dict:
    """Returns the dict that all tasks return.

    Args:
        figure, name: the score as text, and its name.
        score: with its interval, which is drawn.
        sentences: about the score.
        n: number of test images.
        end: of the axis, which begins at 0.
        no_skill: the score without skill.
    """
    point, low, high = score
    if low is None:
        return {"figure": figure, "name": name, "sentences": sentences} | _NO_INTERVAL | {"value": point}
    if n < FEW_TEST_IMAGES:
        sentences = [*sentences, f"With only {count(n, 'test image')} the interval is wide."]
    shown = formatter(name)
    title = f"{name} {shown(point)}, between {shown(low)} and {shown(high)}; without skill {shown(no_skill)}"
    svg = figures.interval(low, point, high, end or 1.0, no_skill, title)
    return {
        "figure": figure,
        "value": point,
        "name": name,
        "low": low,
        "high": high,
        "sentences": sentences,
        "svg": svg,
    }


def _compare_with_no_skill(better: bool, worse: bool) -> str:
    return "the model is clearly better" if better else "the model is worse" if worse else "no measurable difference"


# The headline of each task.
HEADLINES = {"single_label": single_label, "multi_label": multi_label, "regression": regression}
