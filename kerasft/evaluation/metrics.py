"""The metrics of `metrics.json`, by task. They are computed from what is stored and served: probabilities, or values."""

from dataclasses import replace

import numpy as np

from kerasft.evaluation.calibration import calibration_error
from kerasft.evaluation.scoring import Scorer, apply_activation, mean_average_precision

# A class gets a threshold of its own only with so many positives, and so many negatives. The best of fewer is luck.
MIN_EXAMPLES_PER_THRESHOLD = 10
# The threshold of a class without positives or negatives.
DEFAULT_THRESHOLD = 0.5


def compute(
    scorer: Scorer, outputs: np.ndarray, classes: tuple[str, ...], thresholds: np.ndarray | None = None
) -> dict:
    """Computes all metrics of one split.

    Single-label: accuracy, top-5 accuracy (for more than five classes), macro F1, expected calibration error, log loss;
    precision, recall and F1 by class; `confusion_matrix[i][j]` counts images of class i that are predicted as class j.
    Multi-label: mean average precision; at the thresholds, micro F1, macro F1 and exact match. Regression: mean absolute
    error and root mean squared error, in the units of the targets and in their deviations (`scaled_mae`, `scaled_rmse`),
    and R2. For several targets these are means; where units differ, only the scaled ones and R2 have a meaning. Where a
    quantile is predicted, `coverage` is the fraction of targets that are at most the value, which should be `quantile`, and
    `pinball` the mean pinball loss: in the units of a single target, in deviations for several.

    A metric that cannot be measured is None: those of a class without images, R2 of a constant target. Means leave these
    out.

    Args:
        scorer: of the split.
        outputs: float32 [N, C] logits, or [N, D] values.
        classes: names of the classes or of the targets.
        thresholds: float [C] for multi-label.
    """
    # Logits may differ where the stored probabilities, in float32, do not.
    scores = apply_activation(scorer.task, outputs).astype(np.float32)
    common = {"loss": replace(scorer, weights=None).loss(outputs), "n": len(scorer.labels)}
    if scorer.task == "single_label":
        return _single_label(scores, scorer.labels, classes) | common
    if scorer.task == "multi_label":
        return _multi_label(scores, scorer.labels, classes, thresholds) | common
    if scorer.error == "pinball":
        return _with_quantile(_regression(scores, scorer, classes) | common, scores, scorer)
    return _regression(scores, scorer, classes) | common


def _single_label(scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices, predicted = np.arange(len(classes)), scores.argmax(-1)
    table = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    metrics = {"accuracy": float((predicted == labels).mean())}
    if len(classes) > 5:
        top5 = np.argpartition(-scores, 4, axis=-1)[:, :5]
        metrics["top5_accuracy"] = float((top5 == labels[:, None]).any(-1).mean())
    metrics["macro_f1"] = float(table[2][np.isin(indices, labels)].mean())
    metrics["ece"] = calibration_error(scores.max(-1), predicted == labels)
    metrics["per_class"] = {
        name: {**_none_without_images(n, precision=p, recall=r, f1=f), "n": int(n)}
        for name, p, r, f, n in zip(classes, *table)
    }
    return metrics | {"confusion_matrix": confusion_matrix(labels, predicted, labels=indices).tolist()}


def _multi_label(scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], thresholds: np.ndarray) -> dict:
    from sklearn.metrics import average_precision_score

    truth, predicted = labels.astype(bool), scores >= thresholds
    # Counted here: scikit-learn takes a single label for two classes.
    right, named, given = (truth & predicted).sum(0), predicted.sum(0), truth.sum(0)
    precision, recall, f1 = _ratio(right, named), _ratio(right, given), _ratio(2 * right, named + given)
    occurs = truth.any(0)
    average_precisions = [
        float(average_precision_score(truth[:, i], scores[:, i])) if occurs[i] else None for i in range(len(classes))
    ]
    return {
        "map": mean_average_precision(scores, labels) if occurs.any() else None,
        "micro_f1": float(_ratio(2 * right.sum(), named.sum() + given.sum())),
        "macro_f1": float(f1[occurs].mean()) if occurs.any() else None,
        "exact_match": float((truth == predicted).all(-1).mean()),
        "ece": calibration_error(scores.ravel(), truth.ravel()),
        "per_class": {
            name: {
                "average_precision": a,
                **_none_without_images(n, precision=p, recall=r, f1=f),
                "threshold": float(t),
                "n": int(n),
            }
            for name, a, p, r, f, t, n in zip(classes, average_precisions, precision, recall, f1, thresholds, given)
        },
    }


def _ratio(count: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Returns count / of; 0 where `of` is 0."""
    return np.where(of > 0, count / np.maximum(of, 1), 0.0)


def _regression(values: np.ndarray, scorer: Scorer, targets: tuple[str, ...]) -> dict:
    labels, scale = scorer.labels, scorer.scale
    gap, spread = values.astype(np.float64) - labels, labels.astype(np.float64) - labels.mean(0, dtype=np.float64)
    absolute, squared, variance = np.abs(gap).mean(0), np.square(gap).mean(0), np.square(spread).mean(0)
    varied = variance > 0
    r2 = 1 - squared / np.where(varied, variance, 1)
    per_target = {
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
        "per_target": per_target,
    }


def _with_quantile(metrics: dict, values: np.ndarray, scorer: Scorer) -> dict:
    """The metrics of regression with those of a predicted quantile, over all targets and of each."""
    below, errors = scorer.labels <= values, scorer.errors(values)
    rows = zip(metrics["per_target"].items(), (errors * scorer.scale).mean(0), below.mean(0), strict=True)
    per_target = {name: {**row, "pinball": float(loss), "coverage": float(share)} for (name, row), loss, share in rows}
    unit = scorer.scale[0] if len(per_target) == 1 else 1.0
    found = {"quantile": scorer.quantile, "coverage": float(below.mean()), "pinball": float(errors.mean() * unit)}
    return {**metrics, **found, "per_target": per_target}


def _none_without_images(images: int, **metrics: float) -> dict[str, float | None]:
    """Returns the metrics of a class; None for each if no image has the class."""
    return {name: float(value) if images else None for name, value in metrics.items()}


def fit_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds for each class the probability from which on the class is predicted: the threshold of the greatest F1.

    It lies halfway between two neighbouring probabilities of the split. Classes with fewer than
    `MIN_EXAMPLES_PER_THRESHOLD` positives or negatives share one threshold, if they have so many together. Otherwise, and
    without any positives or negatives, it is `DEFAULT_THRESHOLD`.

    Args:
        probabilities: float [N, C] of the validation split.
        labels: 0 or 1, [N, C].

    Returns:
        float32 [C].
    """
    truth = labels > 0.5
    fewest = np.minimum(truth.sum(0), (~truth).sum(0))
    thresholds = np.full(labels.shape[1], DEFAULT_THRESHOLD, np.float32)
    for i in np.flatnonzero(fewest >= MIN_EXAMPLES_PER_THRESHOLD):
        thresholds[i] = _fit_threshold(probabilities[:, i], truth[:, i])
    rare = (fewest > 0) & (fewest < MIN_EXAMPLES_PER_THRESHOLD)
    pooled = truth[:, rare].ravel()
    if min(pooled.sum(), (~pooled).sum()) >= MIN_EXAMPLES_PER_THRESHOLD:
        thresholds[rare] = _fit_threshold(probabilities[:, rare].ravel(), pooled)
    return thresholds


def _fit_threshold(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the threshold of the greatest F1, from float [N] and bool [N] with positives and negatives."""
    order = np.argsort(-probabilities.astype(np.float64), kind="stable")
    p, hits = probabilities[order].astype(np.float64), np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + truth.sum())
    # A threshold can lie only between two different probabilities.
    candidates = np.flatnonzero(np.append(p[:-1] > p[1:], True))
    best = candidates[f1[candidates].argmax()]
    below = p[best + 1] if best + 1 < len(p) else 0.0
    return (p[best] + below) / 2
