"""The evaluation of a trained network: metrics of validation and test, and the predictions for the test images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data import groups, pipeline
from kerasft.data.splits import Split, Splits
from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Predictor, Scorer
from kerasft.networks.network import Network
from kerasft.storage import predictions_file


@dataclass(frozen=True)
class Evaluation:
    """The results of a network on the splits that it was not trained on.

    Attributes:
        figures: the metrics of `test` and `val`, as in `metrics.json`.
        test: the predictions for the test images: probabilities float64 [N, C], or values [N, D].
        outputs: of the network for the test images, float32 [N, ...].
        losses: of the test images, float64 [N]. Their mean is the loss of `figures`.
        thresholds: float32 [C] for multi-label, chosen on validation; else None.
    """

    figures: dict[str, dict[str, Any]]
    test: np.ndarray
    outputs: np.ndarray
    losses: np.ndarray
    thresholds: np.ndarray | None


def fit_thresholds(task: str, splits: Splits, outputs: np.ndarray) -> np.ndarray | None:
    """Chooses the thresholds of a multi-label network by its outputs on validation, float32 [N, C]; None for other tasks."""
    if task != "multi_label":
        return None
    return metrics.fit_thresholds(scoring.apply_activation(task, outputs), splits.val.labels)


def evaluate(
    network: Network,
    splits: Splits,
    validation: Scorer,
    predict: Callable[[Split], np.ndarray],
    val_outputs: np.ndarray,
    thresholds: np.ndarray | None,
) -> Evaluation:
    """Scores validation and test.

    Args:
        network: in float32.
        splits: the test split is read here for the first time.
        validation: the Scorer of the validation split. The test split is scored with its scale and its error.
        predict: from a split to the outputs that are served (`predict_split`).
        val_outputs: of the network, float32 [N, ...].
        thresholds: of `fit_thresholds`.
    """
    outputs = {"test": predict(splits.test), "val": val_outputs}
    figures = {}
    for name in outputs:
        labels = getattr(splits, name).labels
        scorer = replace(validation, labels=labels, weights=None)
        figures[name] = metrics.compute(scorer, outputs[name], splits.classes, thresholds)
        figures[name]["excluded_copies"] = splits.excluded[name]
    losses = replace(validation, labels=splits.test.labels, weights=None).losses(outputs["test"])
    answers = scoring.apply_activation(network.task, outputs["test"])
    return Evaluation(figures, answers, outputs["test"], losses, thresholds)


def predict_split(forward: Predictor, network: Network, split: Split) -> np.ndarray:
    """Returns the outputs that are served for the images of a split, float32 [N, ...].

    Args:
        forward: what `scoring.make_predictor` gave for the served model. It is traced once for all splits.
        network: whose image size is taken.
        split: the images.
    """
    return forward(pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE))


def write_predictions(folder: Path, task: str, splits: Splits, evaluation: Evaluation) -> None:
    """Writes `predictions.npz`: ids, labels, classes, and the predictions for the test images with their losses.

    `groups` is there where images belong together: copies, near duplicates, and those of one group.
    """
    arrays = {"ids": splits.test.ids, "labels": splits.test.labels, "classes": np.array(splits.classes)}
    arrays["losses"] = evaluation.losses.astype(np.float32)
    arrays["values" if task == "regression" else "probabilities"] = evaluation.test.astype(np.float32)
    if evaluation.thresholds is not None:
        arrays["thresholds"] = evaluation.thresholds
    if (found := groups.repeated(splits.test.groups)) is not None:
        arrays["groups"] = found
    predictions_file.write(folder, arrays)
