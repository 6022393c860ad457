"""Confusion: which classes are predicted in place of which."""

import numpy as np
from markupsafe import Markup

from kerasft.evidence import figures
from kerasft.evidence.predictions import Predictions, Section

# With more classes the confusion matrix is drawn instead of a table of numbers.
MAX_TABLE_CLASSES = 12

# With more classes it is left out.
MAX_DRAWN_CLASSES = 250

# Most frequent confusions that are listed.
MAX_LISTED = 10


def confusion(predictions: Predictions) -> Section:
    """Returns the top confusions, and the matrix as rows of (count, share of the class) or as SVG; only for single_label.

    `metrics.json` has the matrix already, as `confusion_matrix` of the test split.
    """
    if predictions.task != "single_label":
        return Section("confusion", {}, {"confusion": None})
    classes = list(predictions.classes)
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (predictions.labels, predictions.outputs.argmax(-1)), 1)
    totals = np.maximum(matrix.sum(1, keepdims=True), 1)
    rows = [list(zip(line, line / total)) for line, total in zip(matrix.tolist(), totals)]
    title = f"Confusion matrix of {len(classes)} classes; the most frequent confusions are listed beside it"
    drawn = draw(matrix, classes, title) if MAX_TABLE_CLASSES < len(classes) <= MAX_DRAWN_CLASSES else ""
    shown = {"rows": rows if len(classes) <= MAX_TABLE_CLASSES else [], "svg": drawn}
    return Section("confusion", {}, {"confusion": shown | {"top": confusions(matrix, MAX_LISTED)}})


def confusions(matrix: np.ndarray, most: int) -> list[tuple[int, int, int, float]]:
    """Returns the most frequent mistakes of a confusion matrix, int [C, C]: true class, predicted class, count, share of the class."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows = [divmod(int(place), len(matrix)) for place in order]
    return [(i, j, int(wrong[i, j]), float(wrong[i, j] / matrix[i].sum())) for i, j in rows if wrong[i, j]]


def draw(counts: np.ndarray, classes: list[str], title: str) -> Markup:
    """Draws a confusion matrix, int [C, C], without numbers. A darker cell has a larger share of its row."""
    side, margin = figures.WIDTH, 20
    cell = (side - margin) / len(counts)
    totals = np.maximum(counts.sum(1), 1)
    parts = [figures.tag("rect", class_="field", x=margin, y=margin, width=side - margin, height=side - margin)]
    for i, j in np.argwhere(counts):
        text = f"{classes[i]} → {classes[j]}: {counts[i, j]} of {totals[i]}"
        box = {"x": margin + j * cell, "y": margin + i * cell, "width": cell, "height": cell}
        kind, strength = ("hit", 0.15) if i == j else ("miss", 0.35)
        shade = f"{strength + (1 - strength) * counts[i, j] / totals[i]:.2f}"
        parts.append(figures.tag("rect", figures.tag("title", text), class_=kind, fill_opacity=shade, **box))
    middle = margin + (side - margin) / 2
    parts.append(figures.tag("text", "predicted →", class_="label", x=middle, y=13, text_anchor="middle"))
    turned = {"x": 13, "y": middle, "text_anchor": "middle", "transform": f"rotate(-90 13 {middle:.1f})"}
    parts.append(figures.tag("text", "← true", class_="label", **turned))
    return figures.svg(title, *parts, height=side)
