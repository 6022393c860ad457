"""The one figure of a run, how sure it is, and what it means: in words for who decides.

Each function of a task takes the test figures of `metrics.json`, the arrays of `predictions.npz`, the names, and the
Caveats, and gives a dict with `figure`, `name`, `low`, `high`, `words` (sentences) and `picture` (SVG, or nothing where
there is no interval).
"""

from typing import NamedTuple

import numpy as np

from kerasft.console.wording import NONE, count, listed, number, percent
from kerasft.evidence import figures
from kerasft.report import statistics

# Test pictures, below which the interval is wide enough for a word about it.
FEW = 200
# An image of one split is also in another split where a finding has one of these kinds.
SHARED_KINDS = ("duplicate_across_splits", "leak")


_UNKNOWN = {"low": None, "high": None, "picture": ""}


class Caveats(NamedTuple):
    """What the audit knows that a test figure must not hide.

    Attributes:
        shared: test pictures in the figure that stand in another split too.
        left_out: test pictures that are not in the figure, because they stand in another split too.
        missing: classes or labels of which the test split has no picture.
    """

    shared: int = 0
    left_out: int = 0
    missing: tuple[str, ...] = ()


def caveats(test: dict, audit: dict, ids: np.ndarray) -> Caveats:
    """The Caveats of a test split.

    Args:
        test: its figures, as in `metrics.json`.
        audit: as in `audit.json`.
        ids: str [N], the test pictures that were scored.
    """
    scored = set(ids.tolist())
    pairs = [_pair(row) for row in audit["findings"] if row["kind"] in SHARED_KINDS]
    shared = {name for pair in pairs for name in pair if name in scored}
    counts = audit["counts"].get("test", {})
    missing = tuple(name for name, number in counts.items() if not number)
    return Caveats(len(shared), test.get("excluded_copies", 0), missing)


def _pair(finding: dict) -> tuple[str, str]:
    """Names of the two images of a finding: its path, and the image after " as " in its detail."""
    return finding["path"], finding["detail"].partition(" as ")[2].removesuffix(", under another label")


def single_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], known: Caveats) -> dict:
    """Accuracy, Wilson's interval, and always guessing the most frequent class."""
    n, accuracy = test["n"], test["accuracy"]
    right = round(accuracy * n)
    low, high = statistics.wilson(right, n)
    counts = np.bincount(arrays["labels"], minlength=len(classes))
    base = float(counts.max() / n)
    words = [
        f"{right:,} of {count(n, 'test picture')}{_new(known)} got the right label.",
        f"On other pictures of this kind expect between {percent(low)} and {percent(high)} (95% interval).",
        f"Always answering “{classes[int(counts.argmax())]}”, the most frequent class, would be right on {percent(base)}: "
        f"{_against(low > base, high < base)}.",
    ]
    return _headline(percent(accuracy), "accuracy", (low, accuracy, high), [*words, *_missing(known)], n, 1.0, base)


def multi_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str], known: Caveats) -> dict:
    """Mean average precision, a bootstrap interval over the pictures, and a random ranking."""
    n, labels = test["n"], arrays["labels"]
    all_right = f"All labels of a picture were right on {percent(test['exact_match'])} of them."
    if not labels.any():
        words = [f"None of {count(n, 'test picture')} has a label: nothing can be ranked.", all_right]
        return {"figure": NONE, "name": "mean average precision", "words": words} | _UNKNOWN
    at = statistics.average_precisions(arrays["probabilities"], labels)
    low, high = statistics.bootstrap(lambda weights: _mean(at(weights)), n, cost=labels.shape[1])
    present = labels.mean(0)
    base = float(present[present > 0].mean())
    words = [
        "How well the pictures of each label are ranked before all others: 1 is perfect. "
        f"Measured on {count(n, 'test picture')}{_new(known).rstrip(',')}.",
        f"On other pictures of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"A random ranking would reach {number(base)}: {_against(low > base, high < base)}.",
        all_right,
        *_missing(known),
    ]
    return _headline(number(test["map"]), "mean average precision", (low, test["map"], high), words, n, 1.0, base)


def regression(test: dict, arrays: dict[str, np.ndarray], classes: list[str], known: Caveats) -> dict:
    """Mean absolute error, a bootstrap interval over the pictures, and always answering the median.

    The error of one target is in its units. Those of several are in units of each one's deviation, for a mean over
    different units says nothing.
    """
    n, labels = test["n"], arrays["labels"].astype(np.float64)
    units = _units(test, labels, classes)
    gaps = np.abs(arrays["values"] - labels) / units
    errors, guesses = gaps.mean(-1), np.abs(labels - np.median(labels, axis=0)) / units
    low, high = statistics.bootstrap(lambda weights: float((weights * errors).mean()), n)
    point, base = float(errors.mean()), float(guesses.mean())
    several = len(classes) > 1
    if several:
        own = [f"“{name}” {number(test['per_target'][name]['mae'])}" for name in classes[:4]]
        rest = [f"the others as the table below says ({len(classes) - 4})"] if len(classes) > 4 else []
        first = f"Off on average: {', '.join(own + rest)}, each in its own units."
        what = f"In units of each value’s standard deviation that is {number(point)}"
    else:
        first, what = f"The answers for “{classes[0]}” are off by that much on average", ""
    on = f"on {count(n, 'test picture')}{_new(known).rstrip(',')}."
    words = [
        *([first, f"{what}, {on}"] if several else [f"{first}, {on}"]),
        f"On other pictures of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"Always answering the middle of the true values would be off by {number(base)}: "
        f"{_against(high < base, low > base)}.",
        _explained(test, classes),
        *_missing(known),
    ]
    name = "mean absolute error" + (" in deviations" if several else "")
    return _headline(number(point), name, (low, point, high), words, n, 1.1 * max(base, high), base)


def _explained(test: dict, classes: list[str]) -> str:
    if test["r2"] is not None:
        return f"The model explains {percent(max(test['r2'], 0.0), 0)} of the variation (R²)."
    flat = listed([name for name in classes if test["per_target"][name]["r2"] is None])
    return (
        f"All test pictures have the same true value of {flat}: how much of the variation is explained cannot be said."
    )


def _units(test: dict, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """What each target's error is counted in: 1 for a single one, else its deviation, float64 [D]."""
    if len(classes) == 1:
        return np.ones(1)
    # That of the training labels, as in the figures of the phases; of a run from before it was recorded, the test's.
    deviations = [test["per_target"][name].get("deviation") for name in classes]
    found = np.array([own if own else spread for own, spread in zip(deviations, labels.std(0))])
    return np.where(found > 0, found, 1.0)


def _new(known: Caveats) -> str:
    """What is claimed of the test pictures, between commas."""
    if not known.shared:
        return ", none of which the model had seen,"
    return f", {known.shared:,} of which also {'stands' if known.shared == 1 else 'stand'} in another split,"


def _missing(known: Caveats) -> list[str]:
    """What the figure is silent about."""
    words = []
    if known.shared:
        words.append("What stands in two splits was seen before the test: the figure promises too much.")
    if known.left_out:
        copies = count(known.left_out, "test picture is a copy", "test pictures are copies")
        words.append(f"{copies} of training or validation pictures, and not counted.")
    if known.missing:
        words.append(
            f"The test split has no picture of {listed(list(known.missing))}: the figure says nothing of them."
        )
    return words


def _headline(
    figure: str, name: str, span: tuple[float, float, float], words: list[str], n: int, end: float, base: float
) -> dict:
    """The dict of all tasks.

    Args:
        figure, name: the figure as text, and what it is.
        span: low end, point and high end of the interval.
        words: about it.
        n: examples.
        end: of the line that the interval is drawn on, which begins at 0.
        base: what no skill reaches.
    """
    low, point, high = span
    if n < FEW:
        words = [*words, f"With only {count(n, 'test picture')} the interval stays wide."]
    shown = percent if name == "accuracy" else number
    title = f"{name} {shown(point)}, between {shown(low)} and {shown(high)}; without skill {shown(base)}"
    picture = figures.interval(low, point, high, end or 1.0, base, title)
    return {"figure": figure, "name": name, "low": low, "high": high, "words": words, "picture": picture}


def _against(better: bool, worse: bool) -> str:
    return "the model is clearly better" if better else "the model is worse" if worse else "no measurable difference"


def _mean(values: np.ndarray) -> float:
    """Mean of what is a number."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else np.nan
