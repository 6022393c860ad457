"""The one figure of a run, how sure it is, and what it means: in words for who decides.

Each function takes the test figures of `metrics.json` and the arrays of `predictions.npz`, and gives a dict with
`figure`, `name`, `low`, `high`, `words` (sentences) and `picture` (SVG).
"""

import numpy as np

from kerasft.report import figures, statistics
from kerasft.report.words import count, number, percent

NAMED = 10  # classes without a test picture, in one line
FEW = 200  # test pictures, below which the interval is wide enough for a word about it


def single_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str]) -> dict:
    """Accuracy, Wilson's interval, and always guessing the most frequent class."""
    n, accuracy = test["n"], test["accuracy"]
    low, high = statistics.wilson(round(accuracy * n), n)
    counts = np.bincount(arrays["labels"], minlength=len(classes))
    base = float(counts.max() / n)
    words = [
        f"{round(accuracy * n):,} of {count(n, 'test picture')}, none of which the model had seen, got the right label.",
        f"On other pictures of this kind expect between {percent(low)} and {percent(high)} (95% interval).",
        f"Always answering “{classes[int(counts.argmax())]}”, the most frequent class, would be right on {percent(base)}: "
        f"{_against(low > base, high < base)}.",
    ]
    words += _limits(test, [name for name, there in zip(classes, counts) if not there])
    return _headline(percent(accuracy), "accuracy", (low, accuracy, high), words, n, end=1.0, base=base)


def multi_label(test: dict, arrays: dict[str, np.ndarray], classes: list[str]) -> dict:
    """Mean average precision, a bootstrap interval over the pictures, and a random ranking."""
    n, labels = test["n"], arrays["labels"]
    at = statistics.average_precisions(arrays["probabilities"], labels)
    low, high = statistics.bootstrap(lambda weights: _mean(at(weights)), n, cost=labels.shape[1])
    present = labels.mean(0)
    base = float(present[present > 0].mean())
    words = [
        "How well the pictures of each label are ranked before all others: 1 is perfect. "
        f"Measured on {count(n, 'test picture')}, none of which the model had seen.",
        f"On other pictures of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"A random ranking would reach {number(base)}: {_against(low > base, high < base)}.",
        f"All labels of a picture were right on {percent(test['exact_match'])} of them.",
    ]
    words += _limits(test, [name for name, share in zip(classes, present) if not share])
    return _headline(number(test["map"]), "mean average precision", (low, test["map"], high), words, n, 1.0, base)


def regression(test: dict, arrays: dict[str, np.ndarray], classes: list[str]) -> dict:
    """Mean absolute error, a bootstrap interval over the pictures, and always answering the median."""
    n, labels = test["n"], arrays["labels"]
    errors = np.abs(arrays["values"].astype(np.float64) - labels).mean(-1)
    low, high = statistics.bootstrap(lambda weights: float((weights * errors).mean()), n)
    base = float(np.abs(labels - np.median(labels, axis=0)).mean())
    what = f"“{classes[0]}”" if len(classes) == 1 else f"the {len(classes)} values"
    words = [
        f"The answers for {what} are off by that much on average, on {count(n, 'test picture')}, "
        "none of which the model had seen.",
        f"On other pictures of this kind expect between {number(low)} and {number(high)} (95% interval).",
        f"Always answering the middle of the true values would be off by {number(base)}: "
        f"{_against(high < base, low > base)}.",
        f"The model explains {percent(max(test['r2'], 0.0), 0)} of the variation (R²).",
    ]
    words += _limits(test, [])
    end = 1.1 * max(base, high)
    return _headline(number(test["mae"]), "mean absolute error", (low, test["mae"], high), words, n, end, base)


def _limits(test: dict, absent: list[str]) -> list[str]:
    """What the figure does not say: of classes without a test picture, and of pictures that were no test."""
    words = []
    if absent:
        names = ", ".join(f"“{name}”" for name in absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
        kinds = count(len(absent), "class", "classes")
        words.append(f"It says nothing of {kinds} without a test picture: {names}.")
    if copies := test.get("excluded_copies"):
        more = count(copies, "more test picture")
        words.append(
            f"{more} {'was' if copies == 1 else 'were'} left out: copies of pictures in training or validation."
        )
    return words


def _headline(
    figure: str, name: str, span: tuple[float, float, float], words: list[str], n: int, end: float, base: float
) -> dict:
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
