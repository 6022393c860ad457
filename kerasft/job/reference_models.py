"""Simple models to compare with the fine-tuned network, on the features that the run has computed before training."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft.data import groups, pipeline
from kerasft.data.splits import Split, Splits
from kerasft.evaluation import paired, scoring
from kerasft.evaluation.score_interval import score_interval
from kerasft.evaluation.scoring import Predictor
from kerasft.job.evaluate import Evaluation
from kerasft.networks import copies, depths, layer_names
from kerasft.networks.network import Network
from kerasft.probes import head_statistics, reference_models
from kerasft.probes.reference_models import Answer, Features, ReferenceModel
from kerasft.storage import disk_cache, feature_cache
from kerasft.storage.feature_cache import Prefix
from kerasft.training.train_setup import TrainSetup
from kerasft.training.trainer import Trained

# The name of the head that is solved on frozen features, before anything is fine-tuned.
PROBE = "linear_probe"


@dataclass(frozen=True)
class ReferenceModels:
    """The fitted reference models of a run.

    Attributes:
        models: by name.
        features: that they are fitted on, standardised.
        mean, deviation: float32 [D] of the training features before.
        pretrained: weights of the backbone before training, by `copies.weights_by_name`.
        network: the trained network.
    """

    models: dict[str, ReferenceModel]
    features: Features
    mean: np.ndarray
    deviation: np.ndarray
    pretrained: dict[str, np.ndarray]
    network: Network

    def embedder(self) -> Predictor:
        """From batches of images to standardised features of the frozen network, float32 [N, D].

        A network that was fine-tuned keeps its weights: a copy of it has the pretrained ones.
        """
        part = self.network.model_before(layer_names.STANDARDISE)
        named = copies.weights_by_name(part)
        if any(not np.array_equal(weight, self.pretrained.get(name, weight)) for name, weight in named.items()):
            with _weights(self.network, self.pretrained):
                part = copies.copied_model(part)
        predict = scoring.make_predictor(part)

        def embed(batches: Iterable) -> np.ndarray:
            return ((predict(batches) - self.mean) / self.deviation).astype(np.float32)

        return embed

    def answers(self, queries: int) -> dict[str, Answer]:
        """The models that can answer so many images in a few seconds, by name."""
        few = reference_models.can_compare(self.features, queries)
        return {name: one.answer for name, one in self.models.items() if few or name != "nearest_neighbours"}


def fit(
    trained: Trained, pretrained: dict[str, np.ndarray], splits: Splits, *, boosted: bool = False
) -> ReferenceModels | None:
    """Fits the reference models; None where the features of the training images are not at hand.

    Only test images, and validation images where they are missing, pass the frozen network once more.

    Args:
        trained: whose cache has the features. Its network has its own weights again afterwards.
        pretrained: weights of the backbone before training, as `ReferenceModels` has them; empty for random ones.
        splits: the examples.
        boosted: whether trees are grown too (`--boosted_trees`).
    """
    network, scorer = trained.setup.network, trained.setup.scorer
    raw = _features_before(trained, pretrained, splits) if pretrained else None
    if raw is None:
        return None
    mean, variance = head_statistics.statistics(raw[0], depths.widths(network))
    deviation = np.sqrt(variance)
    train, val, test = (((rows - mean) / deviation).astype(np.float32) for rows in raw)
    features = Features(train, val, test, splits.train.labels, len(splits.classes))
    fitted = reference_models.fit(features, scorer, trained.setup.config.seed if boosted else None)
    # With hidden layers the solution is one on their units, not on the features.
    hidden = any(layer.weights for layer in network.head_layers()[1:-1])
    # A solved head predicts the mean, which is no answer where a quantile is asked for.
    if (
        trained.solution is not None
        and not hidden
        and scorer.error != "pinball"
        and trained.solution[0].shape[0] == test.shape[1]
    ):
        fitted = {PROBE: _probe(network, trained, val), **fitted}
    return ReferenceModels(fitted, features, mean, deviation, pretrained, network)


def measure(
    fitted: ReferenceModels | None, trained: Trained, splits: Splits, evaluation: Evaluation
) -> dict[str, dict[str, Any]]:
    """Scores the reference models on the test images; empty where there are none.

    Args:
        fitted: of `fit`.
        trained: as there.
        splits: the examples.
        evaluation: of the trained network, with which they are compared.

    Returns:
        By name: the score of the task (`accuracy`, ...), its `interval` (95 %; single labels only), `loss`, `seconds`
        (to fit it and to answer, features not counted), `bytes` (what must be kept of it in addition to the backbone), and
        `difference` and `loss_difference` (value, low, high): what the fine-tuned network has more, image by image.
    """
    if fitted is None:
        return {}
    test = fitted.features.test
    return {name: _row(one, test, trained, splits.test, evaluation) for name, one in fitted.models.items()}


def _features_before(
    trained: Trained, pretrained: dict[str, np.ndarray], splits: Splits
) -> tuple[np.ndarray, ...] | None:
    """The features of train, val and test as they were before training; None without those of train."""
    setup = trained.setup
    with _weights(setup.network, pretrained):
        prefix = feature_cache.make_prefix(setup.network.model_before(layer_names.STANDARDISE))
        if not feature_cache.has(setup.cache, prefix, splits.train, setup.network.size):
            return None
        return tuple(_features(setup, prefix, split) for split in (splits.train, splits.val, splits.test))


def _features(setup: TrainSetup, prefix: Prefix, split: Split) -> np.ndarray:
    """The features of a split, float32 [N, D]. They are kept where no other entry has to go for them."""
    cache, size = setup.cache, setup.network.size
    needed = feature_cache.count_bytes(prefix.model, split, prefix.model.output.dtype)
    if feature_cache.has(cache, prefix, split, size) or needed <= disk_cache.spare_bytes(cache):
        return np.asarray(feature_cache.load_or_compute(cache, prefix, split, size).rows, np.float32)
    return prefix.predict(pipeline.evaluation_stream(split, size=size, batch_size=pipeline.EVALUATION_BATCH_SIZE))


@contextmanager
def _weights(network: Network, given: dict[str, np.ndarray]) -> Iterator[None]:
    """Gives a network other weights for the block."""
    changed = {name: weight for name, weight in copies.weights_by_name(network.model).items() if name in given}
    own = {name: np.asarray(weight).copy() for name, weight in changed.items()}
    try:
        for name, weight in changed.items():
            weight.assign(given[name])
        yield
    finally:
        for name, weight in changed.items():
            weight.assign(own[name])


def _probe(network: Network, trained: Trained, val: np.ndarray) -> ReferenceModel:
    """The solved head. As for the network, its temperature is fitted on validation: else that would pass for a gain of the phases.

    Args:
        val: standardised features of the validation images, float32 [N, D].
    """
    kernel, bias = trained.solution

    def raw(rows: np.ndarray) -> np.ndarray:
        outputs = rows @ kernel + bias
        if network.task == "regression":
            outputs = np.asarray(network.model.get_layer(layer_names.VALUES)(outputs))
        return outputs

    temperature = trained.setup.scorer.temperature(raw(val))

    def answer(rows: np.ndarray) -> np.ndarray:
        return raw(rows) / temperature

    return ReferenceModel(answer, kernel.nbytes + bias.nbytes, trained.solution_seconds)


def _row(
    model: ReferenceModel, features: np.ndarray, trained: Trained, test: Split, evaluation: Evaluation
) -> dict[str, Any]:
    started = time.monotonic()
    outputs = model.answer(features)
    seconds = model.seconds + time.monotonic() - started
    setup = trained.setup
    task, scorer = setup.network.task, replace(setup.scorer, labels=test.labels, weights=None)
    row = {scorer.name: scorer.score(outputs), "loss": scorer.loss(outputs)}
    key, together = "values" if task == "regression" else "probabilities", groups.repeated(test.groups)
    known = {"ids": test.ids, "labels": test.labels} | ({} if together is None else {"groups": together})
    answers = scoring.apply_activation(task, outputs)
    if task == "single_label":
        _, low, high = score_interval(task, row | {"n": len(test)}, {**known, key: answers}, ())
        row |= {} if low is None else {"interval": [low, high]}
    one = {**known, key: answers, "losses": scorer.losses(outputs)}
    other = {**known, key: evaluation.test, "losses": evaluation.losses}
    units = setup.scorer.scale if task == "regression" and test.labels.shape[1] > 1 else None
    difference = paired.compare(task, one, other, units, scorer.asked_quantile)
    row |= {"difference": paired.as_json(difference.score), "loss_difference": paired.as_json(difference.loss)}
    return row | {"seconds": round(seconds, 3), "bytes": model.bytes}
