"""What a run trains: the same for all its phases."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.data.splits import Splits, concatenate, example_weights
from kerasft.data.unlabelled import has_label
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.evaluation.scoring import Scorer
from kerasft.networks.network import Network
from kerasft.optimization import losses
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.storage import disk_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.strategies import auto, planning
from kerasft.strategies.phase import Phase
from kerasft.training import weight_interpolation

if TYPE_CHECKING:
    from kerasft.training.teacher import Teacher

# Gradients of a network that computes in float16 are of a loss times this, else they may be too small for the dtype.
FLOAT16_SCALE = 1024.0


@dataclass(frozen=True)
class TrainSetup:
    """What a run trains, the same for all its phases.

    Attributes:
        config: the settings.
        network: whose weights are trained.
        splits: the examples.
        folder: the run folder.
        cache: where cached features are kept.
        scorer: of the validation split.
        example_weights: float [N] of the training examples, or None.
        average: Specs of `--average`.
        batch_size: images a step.
        steps_per_epoch: steps.
        teacher: of `--teacher`, or None.
    """

    config: Config
    network: Network
    splits: Splits
    folder: Path
    cache: DiskCache
    scorer: Scorer
    example_weights: np.ndarray | None
    average: tuple[Spec, ...]
    batch_size: int
    steps_per_epoch: int
    teacher: "Teacher | None" = None


def prepare(config: Config, network: Network, splits: Splits, folder: Path) -> TrainSetup:
    """The setup of a run, with the batch size of the flag or the default."""
    task, weighted = network.task, config.class_weights == "balanced"
    _warn_of_twofold_balance(config, task)
    weights = example_weights(splits.train, splits.classes, task) if weighted else None
    validation_weights = example_weights(splits.val, splits.classes, task) if weighted else None
    scale = splits.train.labels.std(0, dtype=np.float64) if task == "regression" else None
    loss = config.spec("loss")
    error, quantile = losses.error(loss, task), losses.quantile(loss, task) or 0.5
    setup = TrainSetup(
        config=config,
        network=network,
        splits=splits,
        folder=folder,
        cache=disk_cache.from_config(config, folder),
        scorer=Scorer(task, splits.val.labels, scale, validation_weights, error, quantile, losses.delta(loss, task)),
        example_weights=weights,
        average=config.specs("average"),
        batch_size=0,
        steps_per_epoch=0,
    )
    return with_batch_size(setup, config.batch_size or auto.DEFAULT_BATCH_SIZE)


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Examples of each class, int [C], from labels int [N] or 0 and 1 [N, C]."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else (labels > 0).sum(0)


def gradient_scale(model: keras.Model) -> float:
    """By what a loss is multiplied before its gradients are measured, and they are divided: float16 has no smaller ones."""
    return FLOAT16_SCALE if any(layer.compute_dtype == "float16" for layer in model.layers) else 1.0


def loss_of(setup: TrainSetup, spec: Spec, *, mixed: bool = False) -> losses.Loss:
    """The loss that a Spec names, by the labels of the training split: `class_balanced` weighs by their counts.

    Args:
        mixed: whether the labels are shares of classes.

    Returns:
        As `losses.build`.
    """
    task, labels = setup.network.task, setup.splits.train.labels
    labels = labels[has_label(labels)]
    counts = None if task == "regression" else class_counts(labels, len(setup.splits.classes))
    return losses.build(spec, task, setup.scorer.scale, mixed=mixed, counts=counts, examples=len(labels))


def _warn_of_twofold_balance(config: Config, task: str) -> None:
    given = {"--class_weights=balanced": config.class_weights == "balanced"}
    given |= {"--sampling=balanced": config.sampling == "balanced"}
    given |= {f"--loss={config.loss}": losses.weighs_classes(config.spec("loss"), task)}
    if sum(given.values()) > 1:
        named = " and ".join(name for name, holds in given.items() if holds)
        console.say(
            f"warning: {named} each make up for rare classes, so they are corrected more than once; one of them is enough"
        )


def with_batch_size(setup: TrainSetup, batch_size: int) -> TrainSetup:
    """The setup with so many images a step, or all of them where there are fewer."""
    count = len(setup.splits.train)
    batch = min(batch_size, count)
    steps = pipeline.steps_per_epoch(count, batch)
    return replace(setup, batch_size=batch, steps_per_epoch=steps)


def with_unlabelled_train(setup: TrainSetup) -> TrainSetup:
    """The setup of phases with epochs: its training split goes on with the images of `--unlabelled`.

    Their weight is that of an average labelled example, 1. Without such images the setup is as it is.
    """
    splits, weights = setup.splits, setup.example_weights
    if splits.unlabelled is None:
        return setup
    if weights is not None:
        weights = np.concatenate([weights, np.ones(len(splits.unlabelled), weights.dtype)])
    train = concatenate(splits.train, splits.unlabelled)
    setup = replace(setup, splits=replace(splits, train=train), example_weights=weights)
    return with_batch_size(setup, setup.config.batch_size or auto.DEFAULT_BATCH_SIZE)


def check_quantile(config: Config, network: Network, splits: Splits) -> None:
    """Refuses a quantile that no phase would learn, for the validation images are too few to judge one. It costs no training.

    Raises:
        UserError: what `judgeable` would leave has no epochs. A solved head predicts the mean.
    """
    if losses.quantile(config.spec("loss"), network.task) is None:
        return
    planned, _ = planning.plan(config, network, len(splits.train))
    kept = weight_interpolation.judgeable(planned, len(splits.val), solved=network.head_init == "probe")
    if not any(phase.epochs for phase in kept):
        rule = f"a quantile needs a phase with epochs, which needs {MIN_VALIDATION_IMAGES} validation images"
        raise UserError(f"--loss: {rule}, and there are {len(splits.val)}. Received: {config.loss!r}")


def judgeable(setup: TrainSetup, planned: list[Phase]) -> list[Phase]:
    """The phases that the validation split can judge; says so where it cannot."""
    solved, count = setup.network.head_init == "probe", len(setup.splits.val)
    found = weight_interpolation.judgeable(planned, count, solved=solved)
    if found != planned:
        kept = "the solved head" if solved else f"'{planned[0]}'"
        console.say(
            f"validation: {count} image{'s' * (count != 1)} cannot judge a phase "
            f"(needed: {MIN_VALIDATION_IMAGES}): {kept} is kept as it is, and nothing is trained after it"
        )
    return found
