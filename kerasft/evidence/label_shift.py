"""Label shift: what the accuracy would be if the classes had other shares than in the test images. No further pass is needed."""

import numpy as np

from kerasft.console.wording import percent
from kerasft.evidence.predictions import Predictions, Section


def label_shift(predictions: Predictions) -> Section:
    """Returns the balanced accuracy, and the worst accuracy if one class came twice as often; only for single_label.

    It holds if each class keeps its recall: the images of a class look the same, and only their number changes. Classes without
    a test image are left out.
    """
    if predictions.task != "single_label":
        return Section("label_shift", {}, {"label_shift": []})
    labels, right = predictions.labels, predictions.outputs.argmax(-1) == predictions.labels
    counts = np.bincount(labels, minlength=len(predictions.classes))
    found = np.flatnonzero(counts)
    recalls = np.array([right[labels == place].mean() for place in found])
    accuracies = doubled(recalls, counts[found])
    worst = int(accuracies.argmin())
    name = predictions.classes[found[worst]]
    figures = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recalls.mean()),
        "worst_doubled": {"class": name, "accuracy": float(accuracies[worst])},
    }
    sentences = [
        f"If all classes came equally often, the accuracy would be {percent(figures['balanced_accuracy'])} (balanced "
        f"accuracy); in the test images it is {percent(figures['accuracy'])}.",
        f"If one class came twice as often as in the test images, it would be at worst {percent(float(accuracies[worst]))}, "
        f"with “{name}”.",
        "Both take the recall of each class as it is: only the number of its images changes, not their look.",
    ]
    return Section("label_shift", figures, {"label_shift": sentences})


def doubled(recalls: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The accuracy if one class came twice as often, for each class: float [C] from recalls float [C] and counts int [C]."""
    hits = recalls * counts
    return (hits.sum() + hits) / (counts.sum() + counts)
