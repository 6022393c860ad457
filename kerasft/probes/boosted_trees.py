"""Gradient boosted trees on frozen features (LightGBM: Ke et al. 2017), a baseline that must be asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer
from kerasft.probes import head_statistics
from kerasft.settings import machine
from kerasft.settings.errors import UserError

# Trees for each output at most, and how many where validation cannot stop them.
MAX_ROUNDS, DEFAULT_ROUNDS = 300, 60
# Rounds without a lower validation loss after which no more trees are grown.
PATIENCE = 20
# How `metrics.json` names them.
NAME = "boosted_trees"

# Images times features times outputs: above, it takes minutes, and the trees are left out.
MAX_VALUES = 5e8
# Up to so much, one thread is used.
MAX_SINGLE_THREAD_VALUES = 1e6
# Small trees of few features each: there are more features than images as a rule.
SETTINGS = {"learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 5, "feature_fraction": 0.2, "lambda_l2": 1.0}
SETTINGS |= {"bagging_fraction": 0.8, "bagging_freq": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


def load() -> Any:
    """The package LightGBM.

    Raises:
        UserError: it is missing.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        rule = f"needs LightGBM: pip install 'kerasft[baselines]' ({error})"
        raise UserError(f"--boosted_trees: {rule}. Received: --boosted_trees") from None
    return lightgbm


def fit(
    train: np.ndarray, labels: np.ndarray, val: np.ndarray, outputs: int, scorer: Scorer, seed: int
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Fits trees, whose number is the one of the lowest loss on validation.

    Args:
        train, val: features float32 [N, D].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, T], of the training images.
        outputs: C, or T.
        scorer: of the validation split.
        seed: of the features and images that each tree sees.

    Returns:
        A function from features to logits float64 [N, C] or values [N, T], and the bytes of the trees as LightGBM stores them.
    """
    # Threads of a small problem wait for each other longer than they work.
    threads = machine.cpu_count() if train.size * outputs > MAX_SINGLE_THREAD_VALUES else 1
    settings, task = {**SETTINGS, "seed": seed, "num_threads": threads}, scorer.task
    if task == "single_label":
        settings |= {"objective": "multiclass", "num_class": outputs}
        model = _grow(settings, train, labels, val, scorer.labels)
        temperature = scorer.temperature(model.predict(val, raw_score=True))
        return lambda rows: model.predict(rows, raw_score=True) / temperature, len(model.model_to_string())
    settings["objective"] = "regression" if task == "regression" else "binary"
    if scorer.error == "pinball":
        settings |= {"objective": "quantile", "alpha": scorer.quantile}
    constants = head_statistics.constant(labels, outputs, task)
    # An output that does not vary has nothing to split by.
    models = [
        _grow(settings, train, own, val, others) if own.min() < own.max() else None
        for own, others in zip(_columns(labels), _columns(scorer.labels))
    ]

    def answer(rows: np.ndarray) -> np.ndarray:
        columns = [
            np.full(len(rows), constant) if model is None else model.predict(rows, raw_score=True)
            for model, constant in zip(models, constants)
        ]
        return np.stack(columns, 1)

    return answer, sum(len(model.model_to_string()) for model in models if model is not None)


def _columns(labels: np.ndarray) -> list[np.ndarray]:
    """The columns, each copied: of a view LightGBM warns."""
    return [column.copy() for column in labels.T]


def _grow(settings: dict, train: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray) -> Any:
    """One model of LightGBM, with the trees up to its best round."""
    lightgbm = load()
    known = lightgbm.Dataset(train, labels)
    if len(val) < MIN_VALIDATION_IMAGES:
        return lightgbm.train(settings, known, DEFAULT_ROUNDS)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    return lightgbm.train(settings, known, MAX_ROUNDS, [known.create_valid(val, val_labels)], callbacks=[stop])
