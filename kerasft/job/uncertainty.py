"""`--abstain` and `--coverage` of a run: what is fitted on train and validation, and what comes out on test."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasft.console import console
from kerasft.console.wording import percent
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits, take
from kerasft.evaluation import conformal, novelty, scoring
from kerasft.evaluation.conformal import Conformal
from kerasft.evaluation.novelty import Novelty
from kerasft.export.proof import Expected
from kerasft.export.uncertainty_outputs import Uncertainty, expected
from kerasft.job.evaluate import Evaluation
from kerasft.networks import heads
from kerasft.networks.network import Network
from kerasft.settings import abstention
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def check_count(config: Config, splits: Splits) -> None:
    """Raises a UserError if there are too few validation images for `--coverage`. It costs no training."""
    if config.coverage is not None and len(splits.val) < (needed := conformal.needed_images(config.coverage)):
        rule = f"needs at least {needed} validation images, and there are {len(splits.val)}"
        raise UserError(f"--coverage: {rule}; choose a lower one. Received: {config.coverage!r}")


def fit(
    config: Config, network: Network, splits: Splits, val_outputs: np.ndarray, predict: Callable[[Split], np.ndarray]
) -> Uncertainty:
    """Takes the features of the training images, and fits the thresholds on validation.

    Args:
        network: trained, in float32, as it is served.
        splits: test is not read.
        val_outputs: of the network, float32 [N, ...].
        predict: of `make_feature_predictor`.
    """
    method, found = abstention.requested(config, splits.task), None
    if method is not None:
        references, features = None, np.zeros((len(splits.val), 0))
        if method.name == "distance":
            sample = _sample(splits.train, heads.last_depth(network.model).shape[-1])
            references, features = novelty.unit_length(predict(sample)).astype(np.float32), predict(splits.val)
        found = Novelty(*method, threshold=np.inf, references=references)
        scores = found.score(features, val_outputs)
        threshold = novelty.fit_threshold(scores, method.keep)
        found = found._replace(threshold=threshold, kept=float((scores <= threshold).mean()))
    return Uncertainty(found, _fit_conformal(config, splits, scoring.apply_activation(splits.task, val_outputs)))


def _fit_conformal(config: Config, splits: Splits, answers: np.ndarray) -> Conformal | None:
    if config.coverage is None:
        return None
    fit_answers = conformal.fit_intervals if splits.task == "regression" else conformal.fit_sets
    return fit_answers(answers, splits.val.labels, config.coverage)


def evaluate(
    uncertainty: Uncertainty, splits: Splits, evaluation: Evaluation, predict: Callable[[Split], np.ndarray]
) -> tuple[dict[str, Expected], dict[str, dict[str, Any]]]:
    """What the export must give for the test images, as `saved_model.finish` takes it, and the figures of `metrics.json`.

    Args:
        evaluation: of the test split.
        predict: of `make_feature_predictor`.
    """
    figures, test = {}, splits.test
    features = np.zeros((len(test), 0))
    if uncertainty.novelty is not None and uncertainty.novelty.references is not None:
        features = predict(test)
    extra_outputs = expected(uncertainty, features, evaluation.outputs, evaluation.test)
    if (found := uncertainty.novelty) is not None:
        known = extra_outputs["known"][0]
        figures["abstain"] = {"method": found.method, "keep": found.keep, "threshold": found.threshold}
        figures["abstain"] |= {"kept_val": found.kept, "kept": float(known.mean()), "n": len(known)}
        if splits.task == "single_label":
            figures["abstain"] |= _accuracies(evaluation.test.argmax(-1) == test.labels, known)
    if (found := uncertainty.conformal) is not None:
        if splits.task == "regression":
            measured = conformal.figures_of_intervals(found, evaluation.test, test.labels, splits.classes)
        else:
            measured = conformal.figures_of_sets(found, evaluation.test, test.labels)
        figures["coverage"] = {"asked": found.coverage, **measured, "n": len(test), "calibrated_on": len(splits.val)}
    return extra_outputs, figures


def _accuracies(right: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """The accuracy among the known and among the unknown images, each only if there are any."""
    parts = {"accuracy_known": right[known], "accuracy_unknown": right[~known]}
    return {name: float(part.mean()) for name, part in parts.items() if len(part)}


def summarise(metrics: dict) -> None:
    """Prints what `evaluate` found, a line each."""
    if found := metrics.get("abstain"):
        # Early runs did not record the share of validation.
        val = percent(found.get("kept_val", found["keep"]))
        kept = f"{percent(found['kept'])} of {found['n']} test images are known ({val} of validation)"
        console.say(f"abstain: {found['method']}, {kept}")
    if found := metrics.get("coverage"):
        what = f"sets of {found['mean_set_size']:.2f} labels on average" if "mean_set_size" in found else "intervals"
        console.say(
            f"coverage: {what} hold the truth for {percent(found['observed'])} of {found['n']} test images "
            f"({percent(found['asked'])} asked, by {found['calibrated_on']} validation images)"
        )


def make_feature_predictor(network: Network) -> Callable[[Split], np.ndarray]:
    """A function from a split to the pooled features of the last depth, float32 [N, D], of the images as they are.

    It is traced at its first call.
    """
    predict = scoring.make_predictor(keras.Model(network.model.inputs[0], heads.last_depth(network.model)))
    return lambda split: predict(
        pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    )


def _sample(split: Split, width: int) -> Split:
    """The examples of a split that `novelty.spread` keeps of features of a width."""
    rows = novelty.spread(len(split), width)
    return split if len(rows) == len(split) else take(split, rows)
