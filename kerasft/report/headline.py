"""The headline of a report: the test score, its 95 % interval, and what it means in plain sentences.

Each task has a function. It takes the test metrics of `metrics.json`, the arrays of `predictions.npz`, the names of the
classes or targets, and the Caveats. It returns a dict with `figure` (the score as text), `value` (as a number), `name`, `low`, `high`,
`sentences` and `svg` (the drawn interval). Without an interval, `value`, `low` and `high` are None, and `svg` is empty.
"""

from typing import NamedTuple

import numpy as np

from kerasft.console.wording import NOT_MEASURED, count, join_names, number, percent
from kerasft.evaluation.score_interval import score_interval, target_units
from kerasft.evaluation.score_names import formatter
from kerasft.evidence import figures

# With fewer test images a sentence says that the interval is wide.
FEW_TEST_IMAGES = 200
# Kinds of findings that name an image which is in two splits.
SHARED_KINDS = ("duplicate_across_splits", "leak")


_NO_INTERVAL = {"value": None, "low": None, "high": None, "svg": ""}


class Caveats(NamedTuple):
    """Findings of the audit that limit what the test score means.

    Attributes:
        shared: scored test images that are in another split too.
        left_out: test images that were not scored, because they are in another split too.
        missing: classes or labels without a test image.
    """

    shared: int = 0
    left_out: int = 0
    missing: tuple[str, ...] = ()


def find_caveats(test: dict, audit: dict, ids: np.ndarray) -> Caveats:
    """Returns the Caveats of a test split.

    Args:
        test: its metrics, as in `metrics.json`.
        audit: as in `audit.json`.
        ids: str [N], the test images that were scored.
    """
    scored = set(ids.tolist())
    pairs = [_pair(row) for row in audit["findings"] if row["kind"] in SHARED_KINDS]
    shared = {name for pair in pairs for name in pair if name in scored}
    counts = audit["counts"].get("test", {})
    missing = tuple(name for name, number in counts.items() if not number)
    return Caveats(len(shared), test.get("excluded_copies", 0), missing)


def _pair(finding: dict) -> tuple[str, str]:
    """Returns the names of the two images of a finding: its path, and the name after " as " in its detail."""
    return finding["path"], finding["detail"].partition(" as ")[2].removesuffix(", under another label")


def single_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Accuracy with Wilson's interval. Without skill means always answering the most frequent class."""
    n, accuracy = test["n"], test["accuracy"]
    right = round(accuracy * n)
    _, low, high = score_interval("single_label", test, arrays, classes)
    counts = np.bincount(arrays["labels"], minlength=len(classes))
    no_skill = float(counts.max() / n)
    sentences = [
        f"{right:,} of {count(n, 'test image')}{_describe_sample(caveats)} got the right label.",
        f"On other images of this kind expect between {percent(low)} and {percent(high)} (95% interval).",
        f"Always answering “{classes[int(counts.argmax())]}”, the most frequent class, would be right on {percent(no_skill)}: "
        f"{_compare_with_no_skill(low > no_skill, high < no_skill)}.",
    ]
    return _headline(
        percent(accuracy), "accuracy", (low, accuracy, high), [*sentences, *_limitations(caveats)], n, 1.0, no_skill
    )


def multi_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Mean average precision with a bootstrap interval over the images. Without skill means a random ranking."""
    n, labels = test["n"], arrays["labels"]
    exact_match = f"On {percent(test['exact_match'])} of the images all labels were right."
    if not labels.any():
        sentences = [f"None of {count(n, 'test image')} has a label, so nothing can be ranked.", exact_match]
        return {"figure": NOT_MEASURED, "name": "mean average precision", "sentences": sentences} | _NO_INTERVAL
    _, low, high = score_interval("multi_label", test, arrays, classes)
    present = labels.mean(0)
    no_skill = float(present[present > 0].mean())
    sentences = [
        "This says how well the images of each label are ranked before all others: 1 is perfect. "
        f"Measured on {count(n, 'test image')}{_describe_sample(caveats).rstrip(',')}.",
        f"On other images of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"A random ranking would reach {number(no_skill)}: {_compare_with_no_skill(low > no_skill, high < no_skill)}.",
        exact_match,
        *_limitations(caveats),
    ]
    return _headline(
        number(test["map"]), "mean average precision", (low, test["map"], high), sentences, n, 1.0, no_skill
    )


def regression(test: dict, arrays: dict[str, np.ndarray], classes: list[str], caveats: Caveats) -> dict:
    """Mean absolute error with a bootstrap interval over the images. Without skill means always answering the median.

    The error of a single target is in its units. With several targets, which may have different units, each error is
    divided by the standard deviation of its target.
    """
    n, labels = test["n"], arrays["labels"].astype(np.float64)
    point, low, high = score_interval("regression", test, arrays, classes)
    guesses = np.abs(labels - np.median(labels, axis=0)) / target_units(test, labels, classes)
    no_skill = float(guesses.mean())
    several = len(classes) > 1
    if several:
        shown = [f"“{name}” {number(test['per_target'][name]['mae'])}" for name in classes[:4]]
        rest = [f"and {len(classes) - 4} more in the table below"] if len(classes) > 4 else []
        first = f"Mean absolute errors: {', '.join(shown + rest)}, each in its own units."
        what = f"In units of each value’s standard deviation that is {number(point)}"
    else:
        first, what = f"The answers for “{classes[0]}” are off by that much on average", ""
    on = f"on {count(n, 'test image')}{_describe_sample(caveats).rstrip(',')}."
    sentences = [
        *([first, f"{what}, {on}"] if several else [f"{first}, {on}"]),
        f"On other images of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"Always answering the median of the true values would be off by {number(no_skill)}: "
        f"{_compare_with_no_skill(high < no_skill, low > no_skill)}.",
        _explained_variation(test, classes),
        *_limitations(caveats),
    ]
    name = "mean absolute error" + (" in deviations" if several else "")
    return _headline(number(point), name, (low, point, high), sentences, n, 1.1 * max(no_skill, high), no_skill)


def _explained_variation(test: dict, classes: list[str]) -> str:
    if test["r2"] is not None:
        return f"The model explains {percent(max(test['r2'], 0.0), 0)} of the variation (R²)."
    flat = join_names([name for name in classes if test["per_target"][name]["r2"] is None])
    return f"All test images have the same true value of {flat}, so there is no variation to explain (R²)."


def _describe_sample(caveats: Caveats) -> str:
    """Says between commas whether the model had seen the test images."""
    if not caveats.shared:
        return ", none of which the model had seen,"
    return f", {caveats.shared:,} of which {'is' if caveats.shared == 1 else 'are'} also in another split,"


def _limitations(caveats: Caveats) -> list[str]:
    """Returns what the test score does not show."""
    sentences = []
    if caveats.shared:
        sentences.append("Images that are in two splits were seen before the test, so the score is too optimistic.")
    if caveats.left_out:
        copies = count(caveats.left_out, "test image is a copy", "test images are copies")
        sentences.append(f"{copies} of training or validation images, and not counted.")
    if caveats.missing:
        sentences.append(
            f"The test split has no image of {join_names(list(caveats.missing))}, so the score says nothing about them."
        )
    return sentences


def _headline(
    figure: str, name: str, span: tuple[float, float, float], sentences: list[str], n: int, end: float, no_skill: float
) -> dict:
    """Returns the dict that all tasks return.

    Args:
        figure, name: the score as text, and its name.
        span: low end, score and high end of the interval.
        sentences: about the score.
        n: number of test images.
        end: of the axis, which begins at 0.
        no_skill: the score without skill.
    """
    low, point, high = span
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
