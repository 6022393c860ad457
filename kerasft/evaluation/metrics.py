"""The figures of `metrics.json`, by task, from what is stored and served: probabilities or values in float32."""

import numpy as np

from kerasft.evaluation.scoring import Scorer, mean_average_precision, served

LEAST_EXAMPLES = 10  # positives, and negatives, for a threshold of a class's own: the best of fewer is luck
BINS = 15  # of equal width, for the calibration error


def report(scorer: Scorer, outputs: np.ndarray, classes: tuple[str, ...], thresholds: np.ndarray | None = None) -> dict:
    """All figures of one split.

    Single label: accuracy, top-5 accuracy (of more than five classes), macro F1, expected calibration error, log
    loss; precision, recall and F1 by class; `confusion_matrix[i][j]` counts pictures of class i taken for class j.
    Multi-label: mean average precision, micro and macro F1 and the share of pictures whose labels are all right, at
    the thresholds. Regression: mean absolute error and root mean squared error, in the targets' units and in their
    deviations (`scaled_mae`, `scaled_rmse`), and R2; over several targets the mean, which only the scaled ones and R2
    allow where units differ.

    A figure that the split cannot tell is None: those of a class that no picture has, R2 of a target that does not
    vary. Means are over what can be told.

    Args:
        scorer: of the split.
        outputs: float32 [N, C] logits, or [N, D] values.
        classes: names of the classes or of the targets.
        thresholds: float [C] for multi-label.
    """
    # From what is stored and served: logits may differ where probabilities, in float32, do not.
    scores = served(scorer.task, outputs).astype(np.float32)
    common = {"loss": Scorer(scorer.task, scorer.labels, scorer.scale, None, scorer.error).loss(outputs)}
    common["n"] = len(scorer.labels)
    if scorer.task == "single_label":
        return _single_label(scores, scorer.labels, classes) | common
    if scorer.task == "multi_label":
        return _multi_label(scores, scorer.labels, classes, thresholds) | common
    return _regression(scores, scorer, classes) | common


def _single_label(scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every, guess = np.arange(len(classes)), scores.argmax(-1)
    table = precision_recall_fscore_support(labels, guess, labels=every, zero_division=0.0)
    found = {"accuracy": float((guess == labels).mean())}
    if len(classes) > 5:
        best = np.argpartition(-scores, 4, axis=-1)[:, :5]
        found["top5_accuracy"] = float((best == labels[:, None]).any(-1).mean())
    found["macro_f1"] = float(table[2][np.isin(every, labels)].mean())
    found["ece"] = calibration_error(scores.max(-1), guess == labels)
    found["per_class"] = {
        name: {**_told(n, precision=p, recall=r, f1=f), "n": int(n)} for name, p, r, f, n in zip(classes, *table)
    }
    return found | {"confusion_matrix": confusion_matrix(labels, guess, labels=every).tolist()}


def _multi_label(scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], thresholds: np.ndarray) -> dict:
    from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

    truth, guess = labels.astype(bool), scores >= thresholds
    table = precision_recall_fscore_support(truth, guess, zero_division=0.0)
    seen = truth.any(0)
    each = [float(average_precision_score(truth[:, i], scores[:, i])) if seen[i] else None for i in range(len(classes))]
    return {
        "map": mean_average_precision(scores, labels) if seen.any() else None,
        "micro_f1": float(f1_score(truth, guess, average="micro", zero_division=0.0)),
        "macro_f1": float(table[2][seen].mean()) if seen.any() else None,
        "exact_match": float((truth == guess).all(-1).mean()),
        "ece": calibration_error(scores.ravel(), truth.ravel()),
        "per_class": {
            name: {
                "average_precision": a,
                **_told(n, precision=p, recall=r, f1=f),
                "threshold": float(t),
                "n": int(n),
            }
            for name, a, p, r, f, t, n in zip(classes, each, *table[:3], thresholds, table[3])
        },
    }


def _regression(values: np.ndarray, scorer: Scorer, targets: tuple[str, ...]) -> dict:
    labels, scale = scorer.labels, scorer.scale
    gap, spread = values.astype(np.float64) - labels, labels.astype(np.float64) - labels.mean(0, dtype=np.float64)
    absolute, squared, variance = np.abs(gap).mean(0), np.square(gap).mean(0), np.square(spread).mean(0)
    varied = variance > 0
    r2 = 1 - squared / np.where(varied, variance, 1)
    each = {
        name: {
            "mae": float(a),
            "rmse": float(s),
            "r2": float(r) if v else None,
            "scaled_mae": float(a / d),
            "scaled_rmse": float(s / d),
            "deviation": float(d),
        }
        for name, a, s, r, v, d in zip(targets, absolute, np.sqrt(squared), r2, varied, scale)
    }
    return {
        "mae": float(absolute.mean()),
        "rmse": float(np.sqrt(squared.mean())),
        "r2": float(r2[varied].mean()) if varied.any() else None,
        "scaled_mae": float((absolute / scale).mean()),
        "scaled_rmse": float(np.sqrt((squared / np.square(scale)).mean())),
        "per_target": each,
    }


def _told(pictures: int, **found: float) -> dict[str, float | None]:
    """The figures of a class; None where no picture has it."""
    return {name: float(value) if pictures else None for name, value in found.items()}


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap of confidence and frequency over `BINS` bins.

    Args:
        confidence: float [N] in [0, 1].
        right: bool [N].
    """
    place = np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(int) - 1, 0, BINS - 1)  # (low, high]
    gaps = np.bincount(place, confidence.astype(np.float64) - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each class the probability from which on it is taken for present: the one of the greatest F1.

    Halfway between two neighbouring probabilities of the split. Classes of fewer than `LEAST_EXAMPLES` positives or
    negatives share the threshold of the greatest F1 over all of them, if they have that many positives and negatives
    together; else, and without any positives or negatives, it is 0.5.

    Args:
        probabilities: float [N, C] of the validation split.
        labels: 0 or 1, [N, C].

    Returns:
        float32 [C].
    """
    truth = labels > 0.5
    fewest = np.minimum(truth.sum(0), (~truth).sum(0))
    found = np.full(labels.shape[1], 0.5, np.float32)
    for i in np.flatnonzero(fewest >= LEAST_EXAMPLES):
        found[i] = _threshold(probabilities[:, i], truth[:, i])
    rare = (fewest > 0) & (fewest < LEAST_EXAMPLES)
    together = truth[:, rare].ravel()
    if min(together.sum(), (~together).sum()) >= LEAST_EXAMPLES:
        found[rare] = _threshold(probabilities[:, rare].ravel(), together)
    return found


def _threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """That of the greatest F1, from [N] and bool [N] with both kinds among them."""
    order = np.argsort(-probabilities.astype(np.float64), kind="stable")
    p, hits = probabilities[order].astype(np.float64), np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + truth.sum())
    ends = np.flatnonzero(np.append(p[:-1] > p[1:], True))  # where a threshold can lie
    best = ends[f1[ends].argmax()]
    below = p[best + 1] if best + 1 < len(p) else 0.0
    return (p[best] + below) / 2
