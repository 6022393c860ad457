"""Errors of a regression: true against predicted values, and a histogram of the errors."""

import numpy as np
from markupsafe import Markup

from kerasft.evidence import figures
from kerasft.evidence.predictions import Predictions, Section

# More targets are not drawn.
MAX_TARGETS = 4

# More points of a scatter plot are sampled.
MAX_POINTS = 1500

# Bins of a histogram.
HISTOGRAM_BINS = 21


def errors(predictions: Predictions) -> Section:
    """Returns title and SVG of the scatter plot and the histogram of each target; only for regression."""
    drawn = []
    if predictions.task == "regression":
        for index, name in enumerate(predictions.classes[:MAX_TARGETS]):
            truth, values = (part[:, index].astype(float) for part in (predictions.labels, predictions.outputs))
            against = scatter(truth, values, f"{name}, predicted against true")
            drawn.append((f"{name}: predicted against true", against))
            drawn.append((f"{name}: errors", histogram(values - truth, f"{name}, histogram of the errors")))
    return Section("errors", {}, {"errors": drawn})


def scatter(truth: np.ndarray, values: np.ndarray, title: str) -> Markup:
    """Draws predicted over true values, float [N] each, at most `MAX_POINTS` of them."""
    if len(truth) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(truth), MAX_POINTS, replace=False)
        truth, values = truth[chosen], values[chosen]
    low, high = figures.value_range([*truth, *values])
    x, y = figures.plane((low, high), (low, high))
    ideal = figures.tag("line", class_="ideal", x1=x(low), y1=y(low), x2=x(high), y2=y(high))
    dots = [figures.tag("circle", class_="point", cx=x(a), cy=y(b), r=2.4) for a, b in zip(truth, values)]
    marks = figures.marks(low, high)
    return figures.svg(title, figures.axes(x, y, marks, marks, "true value"), ideal, *dots)


def histogram(errors: np.ndarray, title: str) -> Markup:
    """Draws a histogram of the errors, predicted minus true, float [N], from their 1st to their 99th percentile."""
    reach = max(abs(float(value)) for value in np.percentile(errors, [1, 99])) or 1.0
    counts, edges = np.histogram(errors, HISTOGRAM_BINS, (-reach, reach))
    top = max(int(counts.max()), 1)
    x, y = figures.plane((-reach, reach), (0, top * 1.05))
    wide = x(edges[1]) - x(edges[0]) - 1
    bars = [
        figures.tag("rect", class_="bar", x=x(edge) + 0.5, y=y(n), width=wide, height=y(0) - y(n))
        for edge, n in zip(edges, counts)
        if n
    ]
    zero = figures.tag("line", class_="ideal", x1=x(0), x2=x(0), y1=figures.TOP, y2=y(0))
    x_ticks, y_ticks = figures.marks(-reach, reach), figures.marks(0, top * 1.05)
    return figures.svg(title, figures.axes(x, y, x_ticks, y_ticks, "predicted − true"), *bars, zero)
