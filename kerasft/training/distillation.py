"""Distillation in a run (`--teacher`, `--distill`): what the teacher answers becomes part of what the phases and the probe learn.

A teacher answers each image once for each augmentation that the student sees of it, before the phase begins.
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasft import augment
from kerasft.console import console
from kerasft.console.wording import number
from kerasft.data import pipeline
from kerasft.evaluation.score_names import formatter
from kerasft.networks import heads, surgery
from kerasft.networks.network import Network
from kerasft.optimization.distillation import MIN_PROBABILITY, fit_projection
from kerasft.probes.penalised_models import SoftTargets
from kerasft.settings import distillation
from kerasft.settings.errors import UserError, counted
from kerasft.storage import feature_cache
from kerasft.storage.feature_cache import UNAUGMENTED, CachedAugmentation
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training import teacher as teachers
from kerasft.training import train_setup
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.train_setup import TrainSetup


def with_teacher(setup: TrainSetup) -> TrainSetup:
    """The setup with the teacher that `--teacher` names, loaded; without one as it is.

    Raises:
        UserError: as `distillation.requested`, a teacher cannot be loaded, or features are not finite.
    """
    network, classes = setup.network, setup.splits.classes
    asked = distillation.requested(setup.config, network.task, classes)
    if asked is None:
        return setup
    teacher = teachers.load(asked, network.size, classes)
    if asked.features_weight:
        # The student is as it is before its first phase, also where a stopped run goes on.
        prefix = feature_cache.make_prefix(keras.Model(network.model.inputs[0], heads.last_depth(network.model)))
        train = train_setup.with_unlabelled_train(setup).splits.train
        own = feature_cache.load_or_compute(setup.cache, prefix, train, network.size, UNAUGMENTED).rows
        try:
            projection = fit_projection(
                own, teacher.rows(setup.cache, train, network.size, UNAUGMENTED)[:, teacher.outputs :]
            )
        except ValueError as error:
            raise UserError(f"--distill: {error}; leave features. Received: {setup.config.distill!r}") from None
        teacher = teacher._replace(projection=projection)
    return replace(setup, teacher=teacher)


def note(setup: TrainSetup, resolved: ResolvedSettings) -> None:
    """Scores the teachers on validation, prints the scores and records them in ResolvedSettings."""
    if setup.teacher is None:
        return
    network, scorer = setup.network, setup.scorer
    asked, answers = setup.teacher.asked, setup.teacher.answers(setup.cache, setup.splits.val, network.size)
    loss, score = scorer.calibrated_loss_and_score(to_outputs(answers, network.task))
    shown = formatter(scorer.name)(score)
    named = " | ".join(files.path for files in asked.teachers)
    console.say(
        f"teacher: {named}, {scorer.title} {shown} and loss {number(loss)} on the {counted(len(answers), 'validation image')}"
    )
    for files in asked.teachers:
        if files.framing != setup.splits.train.framing:
            console.say(
                f"warning: {files.path} was trained with --framing={files.framing} and sees images of "
                f"--framing={setup.splits.train.framing}"
            )
    rows = [{"path": files.path, "sha256": digest} for files, digest in zip(asked.teachers, setup.teacher.digests)]
    for files, row in zip(asked.teachers, rows):
        if learned := teachers.count_learned(files, setup.splits.test):
            row["learned_test_images"] = learned
            console.say(
                f"WARNING: {files.path} has learned {counted(learned, 'test image')} of this run, so the test score will be too "
                "good; train it on the same splits (the same --seed, or folders train/, val/ and test/)"
            )
    figures = {f"val_{scorer.name}": score, "val_loss": loss}
    temperature = {} if network.task == "regression" else {"temperature": asked.temperature}
    weights = {"weight": asked.weight} | ({"features_weight": asked.features_weight} if asked.features_weight else {})
    without = setup.splits.unlabelled
    unlabelled = {} if without is None else {"unlabelled": len(without)}
    resolved.teacher = {"members": rows, **figures, **temperature, **weights, **unlabelled}


def check_phases(setup: TrainSetup, planned: list[Phase]) -> None:
    """Checks that the teacher can see what the student will see. Warns where no phase trains on `--unlabelled` images.

    Raises:
        UserError: the augmentation of a phase draws numbers of its own, so no two networks see the same images.
    """
    if setup.splits.unlabelled is not None and not any(phase.epochs for phase in planned):
        console.say("warning: --unlabelled changes nothing, for no phase has epochs")
    for phase in planned if setup.teacher else ():
        if phase.epochs and not augment.build(phase.augment, setup.network.task, len(setup.splits.classes)).stateless:
            rule = "layers of Keras draw their own numbers, so a teacher cannot see the same images; leave them out"
            raise UserError(f"--augment: {rule}. Received: '{' | '.join(map(str, phase.augment))}'")


def check_unchanged(setup: TrainSetup, resolved: ResolvedSettings) -> None:
    """Checks that the teachers of a run that goes on are those that it began with.

    Raises:
        UserError: the files of one have changed.
    """
    rows = (resolved.teacher or {}).get("members", [])
    for row, digest in zip(rows, setup.teacher.digests if setup.teacher else ()):
        if row["sha256"] != digest:
            rule = "the teacher has changed since the run was stopped; start again with --noresume"
            raise UserError(f"--teacher: {rule}. Received: {row['path']!r}")


def to_outputs(answers: np.ndarray, task: str) -> np.ndarray:
    """What a network gives that answers so: logits float [N, C] of probabilities, or the values."""
    if task == "regression":
        return answers
    present = np.log(np.maximum(answers, MIN_PROBABILITY))
    return present if task == "single_label" else present - np.log(np.maximum(1 - answers, MIN_PROBABILITY))


def soft_targets_of_probe(setup: TrainSetup) -> SoftTargets | None:
    """What the solver of the probe learns in addition to the labels of the training images; None without a teacher, or a probe."""
    teacher, network = setup.teacher, setup.network
    if teacher is None or network.head_init != "probe" or not teacher.asked.weight:
        return None
    answers = teacher.answers(setup.cache, setup.splits.train, network.size)
    return SoftTargets(np.asarray(answers), teacher.asked.temperature, teacher.asked.weight)


def with_teacher_answers(setup: TrainSetup, network: Network, phase: Phase, inputs: PhaseInputs) -> PhaseInputs:
    """The inputs of a phase with the teacher's answers among their targets (`optimization.distillation`); all are computed here.

    Cached augmentations have an answer each. Without a cache, the student sees as many augmentations of an image as the
    phase has epochs, and the teacher answers all of them. `mixup` and `cutmix` mix the answers as they mix the labels. Features
    are taught in phases on images: the model then gives its features after its logits. With `--unlabelled` the last target is the
    share of an image that is labelled, which is mixed with the rest.

    Args:
        network: that the phase trains.

    Raises:
        UserError: the disk is full.
    """
    teacher, splits, size = setup.teacher, setup.splits, setup.network.size
    if teacher is None or not phase.epochs:
        return inputs
    views = _augmentations(setup, phase, inputs)
    if len(views) > 1:
        console.say(f"teacher: answers {len(views)} augmentations of {counted(len(splits.train), 'image')}")
    if teacher.projection is not None and not inputs.views:
        both = keras.layers.Concatenate(dtype=teachers.DTYPE)(
            [network.model.outputs[0], heads.last_depth(network.model)]
        )
        wide = network._replace(model=keras.Model(network.model.inputs[0], both))
        model = surgery.resolution(wide, phase.image_size or network.size).model
        inputs = inputs._replace(model=model, projection=teacher.projection)
    asked_for = teacher.answers if inputs.projection is None else teacher.rows
    stored = [asked_for(setup.cache, splits.train, size, view) for view in views]
    answers, classes = pipeline.cached_activations(stored, teachers.DTYPE), len(splits.classes)
    rounds_of_phase, load = inputs.views or phase.epochs, inputs.load

    def load_with_answers(
        rounds: tf.Tensor, rows: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        rounds = rounds % rounds_of_phase
        (given,) = answers(rounds, rows)
        own = tf.one_hot(labels, classes) if labels.dtype.is_integer else labels
        if splits.unlabelled is None:
            return load(rounds, rows, tf.concat([own, given], 1), *weights)
        labelled = (labels >= 0 if labels.dtype.is_integer else ~tf.math.is_nan(labels[:, 0]))[:, None]
        targets = tf.where(labelled, own, 0.0), given, tf.cast(labelled, tf.float32)
        return load(rounds, rows, tf.concat(targets, 1), *weights)

    return inputs._replace(load=load_with_answers)


def _augmentations(setup: TrainSetup, phase: Phase, inputs: PhaseInputs) -> list[CachedAugmentation]:
    """The augmentations of an image that a phase sees, in the order of its rounds."""
    given: dict[str, Any] = {"task": setup.network.task, "classes": len(setup.splits.classes)}
    # Mixing comes after all others, and draws numbers of its own.
    recipe = tuple(spec for spec in phase.augment if not augment.build((spec,), **given).mixes)
    if inputs.views == 1 or not recipe:
        return [UNAUGMENTED]
    layer, text = augment.build(recipe, **given), " | ".join(map(str, recipe))
    return [CachedAugmentation(layer, text, setup.config.seed, turn) for turn in range(inputs.views or phase.epochs)]
