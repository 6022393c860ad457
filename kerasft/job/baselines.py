"""What would do as well as the fine-tuned network: baselines on the features that the run has computed before training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from kerasft.data.splits import Split, Splits
from kerasft.evaluation import scoring
from kerasft.evaluation.score_names import SCORES
from kerasft.job.evaluate import Evaluation
from kerasft.networks import depths, layer_names
from kerasft.networks.network import Network
from kerasft.report import paired, statistics
from kerasft.storage import feature_cache
from kerasft.storage.feature_cache import Entry
from kerasft.training import baselines, head_statistics
from kerasft.training.baselines import Baseline, Features
from kerasft.training.trainer import Trained

# The name of the head that is solved on frozen features, before anything is fine-tuned.
PROBE = "linear_probe"


def measure(
    trained: Trained, pretrained: dict[str, np.ndarray], splits: Splits, evaluation: Evaluation
) -> dict[str, dict[str, Any]]:
    """Scores the baselines on the test images; empty where the features of the training images are not at hand.

    Only test images, and validation images where they are missing, pass the frozen network once more.

    Args:
        trained: whose cache has the features. Its network has its own weights again afterwards.
        pretrained: weights of the backbone before training, by path; empty for random ones.
        splits: the examples.
        evaluation: of the trained network, with which the baselines are compared.

    Returns:
        By name: the score of the task (`accuracy`, ...), its `interval` (95 %; single labels only), `loss`, `seconds`
        (to fit it and to answer, features not counted), and `difference` and `loss_difference` (value, low, high):
        what the fine-tuned network has more, image by image.
    """
    network, scorer = trained.setup.network, trained.setup.scorer
    found = _entries(trained, pretrained, splits) if pretrained else None
    if found is None:
        return {}
    raw = [np.asarray(entry.rows, np.float32) for entry in found]
    mean, variance = head_statistics.statistics(raw[0], depths.widths(network))
    train, val, test = (((rows - mean) / np.sqrt(variance)).astype(np.float32) for rows in raw)
    features = Features(train, val, test, splits.train.labels, len(splits.classes))
    fitted = baselines.fit(features, scorer)
    if trained.solution is not None and trained.solution[0].shape[0] == test.shape[1]:
        fitted = {PROBE: _probe(network, trained, features), **fitted}
    return {name: _row(baseline, trained, splits.test, evaluation) for name, baseline in fitted.items()}


def _entries(trained: Trained, pretrained: dict[str, np.ndarray], splits: Splits) -> tuple[Entry, ...] | None:
    """The features of train, val and test as they were before training; None without those of train."""
    setup = trained.setup
    with _weights(setup.network, pretrained):
        prefix = feature_cache.make_prefix(setup.network.model_before(layer_names.STANDARDISE))
        if not feature_cache.has(setup.cache, prefix, splits.train, setup.network.size):
            return None
        return tuple(
            feature_cache.load_or_compute(setup.cache, prefix, split, setup.network.size)
            for split in (splits.train, splits.val, splits.test)
        )


@contextmanager
def _weights(network: Network, given: dict[str, np.ndarray]) -> Iterator[None]:
    """Gives a network other weights for the block."""
    changed = [weight for weight in network.model.weights if weight.path in given]
    own = [np.asarray(weight).copy() for weight in changed]
    try:
        for weight in changed:
            weight.assign(given[weight.path])
        yield
    finally:
        for weight, value in zip(changed, own, strict=True):
            weight.assign(value)


def _probe(network: Network, trained: Trained, features: Features) -> Baseline:
    started = time.monotonic()
    kernel, bias = trained.solution
    outputs = features.test @ kernel + bias
    if network.task == "regression":
        outputs = np.asarray(network.model.get_layer(layer_names.VALUES)(outputs))
    return Baseline(outputs, trained.solution_seconds + time.monotonic() - started)


def _row(baseline: Baseline, trained: Trained, test: Split, evaluation: Evaluation) -> dict[str, Any]:
    setup = trained.setup
    task, score = setup.network.task, SCORES[setup.network.task]
    scorer = replace(setup.scorer, labels=test.labels, weights=None)
    row = {score: scorer.score(baseline.outputs), "loss": scorer.loss(baseline.outputs)}
    if task == "single_label":
        row["interval"] = list(statistics.wilson(round(row[score] * len(test)), len(test)))
    key = "values" if task == "regression" else "probabilities"
    known = {"ids": test.ids, "labels": test.labels}
    answers = scoring.apply_activation(task, baseline.outputs)
    one = {**known, key: answers, "losses": scorer.losses(baseline.outputs)}
    other = {**known, key: evaluation.test, "losses": evaluation.losses}
    units = setup.scorer.scale if task == "regression" and test.labels.shape[1] > 1 else None
    difference = paired.compare(task, one, other, units)
    row |= {"difference": list(difference.score), "loss_difference": list(difference.loss)}
    return row | {"seconds": round(baseline.seconds, 3)}
