"""The evaluation of a trained network: metrics of validation and test, and the predictions for the test images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data import pipeline
from kerasft.data.splits import Splits
from kerasft.evaluation import metrics, scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks.network import Network
from kerasft.storage import run_folder


@dataclass(frozen=True)
class Evaluation:
    """The results of a network on the splits that it was not trained on.

    Attributes:
        figures: the metrics of `test` and `val`, as in `metrics.json`.
        test: the predictions for the test images: probabilities float64 [N, C], or values [N, D].
        thresholds: float32 [C] for multi-label, chosen on validation; else None.
    """

    figures: dict[str, dict[str, Any]]
    test: np.ndarray
    thresholds: np.ndarray | None


def evaluate(network: Network, splits: Splits, validation: Scorer) -> Evaluation:
    """Scores validation and test.

    Args:
        network: in float32.
        splits: the test split is read here for the first time.
        validation: the Scorer of the validation split. The test split is scored with its scale and its error.
    """
    predict = scoring.make_predictor(network.model)
    outputs = {}
    for name in ("val", "test"):
        split = getattr(splits, name)
        outputs[name] = predict(
            pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
        )
    thresholds = None
    if network.task == "multi_label":
        thresholds = metrics.fit_thresholds(scoring.apply_activation(network.task, outputs["val"]), splits.val.labels)
    figures = {}
    for name in ("test", "val"):
        labels = getattr(splits, name).labels
        scorer = Scorer(network.task, labels, validation.scale, error=validation.error)
        figures[name] = metrics.compute(scorer, outputs[name], splits.classes, thresholds)
        figures[name]["excluded_copies"] = splits.excluded[name]
    return Evaluation(figures, scoring.apply_activation(network.task, outputs["test"]), thresholds)


def write_predictions(folder: Path, task: str, splits: Splits, evaluation: Evaluation) -> None:
    """Writes `predictions.npz`: ids, labels, classes, and the predictions for the test images."""
    arrays = {"ids": splits.test.ids, "labels": splits.test.labels, "classes": np.array(splits.classes)}
    arrays["values" if task == "regression" else "probabilities"] = evaluation.test.astype(np.float32)
    if evaluation.thresholds is not None:
        arrays["thresholds"] = evaluation.thresholds
    run_folder.write(folder / "predictions.npz", lambda file: np.savez_compressed(file, **arrays))
