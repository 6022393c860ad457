"""The teacher of a run (`--teacher`): its answers for the images of the student, computed once and kept in the cache.

A teacher answers each image once for each augmentation that the student sees of it. It sees the student's images: decoded,
framed and augmented in the same way, and resized to its own size. Its network is called in inference mode and never trained.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft import augment
from kerasft.console import console
from kerasft.console.wording import number, percent
from kerasft.data import decode, pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.export import saved_model
from kerasft.networks import saved_files
from kerasft.optimization.distillation import MIN_PROBABILITY
from kerasft.settings import distillation
from kerasft.settings.distillation import Distillation, TeacherFiles
from kerasft.settings.errors import UserError, counted
from kerasft.storage import feature_cache
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import UNAUGMENTED, CachedAugmentation, Prefix
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training.penalised_models import Taught
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.setup import TrainSetup

# Answers are stored and compared in this dtype.
DTYPE = "float32"

# A function from images float32 [B, S, S, 3] in 0..255 to probabilities float32 [B, C], or values [B, D].
Member = Callable[[tf.Tensor], tf.Tensor]


class Teacher(NamedTuple):
    """A teacher that is loaded.

    Attributes:
        asked: what it teaches, and how.
        prefix: images of the student's size to the answers; its digest is that of the files.
        digests: SHA-256 of the files of each of `asked.teachers`.
    """

    asked: Distillation
    prefix: Prefix
    digests: tuple[str, ...]

    def answers(
        self, cache: DiskCache, split: Split, size: int, augmentation: CachedAugmentation = UNAUGMENTED
    ) -> np.ndarray:
        """The answers for all images of a split, float32 [N, C] probabilities or [N, D] values; from the cache if they are there."""
        return feature_cache.load_or_compute(cache, self.prefix, split, size, augmentation, DTYPE).rows


class MeanAnswer(keras.layers.Layer):
    """The mean of the answers of several networks, none of whose variables are the layer's own.

    Args:
        members: the networks.
        outputs: C, or D.
    """

    def __init__(self, members: list[Member], outputs: int):
        super().__init__(dtype=DTYPE, autocast=False)
        # A plain list of layers would be tracked, and their variables with them.
        self.members, self.outputs = tuple(members), outputs

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Images float32 [B, S, S, 3] to answers float32 [B, C]."""
        answers = [member(images) for member in self.members]
        return tf.ensure_shape(tf.add_n(answers) / len(answers), [None, self.outputs])

    def compute_output_shape(self, shape: tuple) -> tuple:
        """[B, S, S, 3] to [B, C]."""
        return shape[0], self.outputs


def with_teacher(setup: TrainSetup) -> TrainSetup:
    """The setup with the teacher that `--teacher` names, loaded; without one as it is.

    Raises:
        UserError: as `distillation.requested`, or a teacher cannot be loaded.
    """
    network, classes = setup.network, setup.splits.classes
    asked = distillation.requested(setup.config, network.task, classes)
    return replace(setup, teacher=load(asked, network.size, classes)) if asked else setup


def load(asked: Distillation, size: int, classes: tuple[str, ...]) -> Teacher:
    """Loads the teachers.

    Args:
        size: side of the student's images in pixels.
        classes: the student's, in whose order the answers come.

    Raises:
        UserError: one cannot be loaded.
    """
    images = keras.Input((size, size, 3), dtype=DTYPE, name="images")
    members = [_member(files, size, classes) for files in asked.teachers]
    model = keras.Model(images, MeanAnswer(members, len(classes))(images), name="teacher")
    digests = tuple(_digest(files.model) for files in asked.teachers)
    parts = tf.__version__, keras.__version__, decode.DECODER_VERSION, classes, sorted(digests)
    digest = hashlib.sha256(repr(("teacher", *parts)).encode()).hexdigest()
    return Teacher(asked, Prefix(model, digest, scoring.make_predictor(model)), digests)


def _member(files: TeacherFiles, size: int, classes: tuple[str, ...]) -> Member:
    network = _saved_model(files) if files.model.is_dir() else _keras_model(files)
    order = [files.classes.index(name) for name in classes]

    def answer(images: tf.Tensor) -> tf.Tensor:
        if files.size != size:
            images = tf.image.resize(images, (files.size, files.size), antialias=True)
        return tf.gather(network(images), order, axis=1)

    return answer


def _keras_model(files: TeacherFiles) -> Member:
    try:
        model = saved_files.read(files.model)
    except saved_files.REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--teacher: Keras cannot load {files.model} ({reason}). Received: {files.path!r}") from error
    activations = {"single_label": tf.nn.softmax, "multi_label": tf.sigmoid, "regression": tf.identity}
    activation = activations[files.task]
    return lambda images: activation(tf.cast(model(images, training=False), tf.float32))


def _saved_model(files: TeacherFiles) -> Member:
    try:
        loaded = saved_model.load(files.model)
    except UserError as error:
        raise UserError(str(error).replace("--model:", "--teacher:", 1)) from error
    key, serve = "values" if files.task == "regression" else "probabilities", loaded.signatures["images"]
    # The signature needs the loaded model, which owns its variables.
    return lambda images, _alive=loaded: serve(images=images)[key]


def _digest(model: Path) -> str:
    """SHA-256 of a file, or of the files of a folder by their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]:
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(model)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


def note(setup: TrainSetup, resolved: ResolvedSettings) -> None:
    """Measures a new run's teachers on the validation images, says it, and notes it in what is resolved."""
    if setup.teacher is None:
        return
    network, scorer = setup.network, setup.scorer
    asked, answers = setup.teacher.asked, setup.teacher.answers(setup.cache, setup.splits.val, network.size)
    loss, score = scorer.calibrated_loss_and_score(to_outputs(answers, network.task))
    shown = percent(score) if scorer.name == "accuracy" else number(score)
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
    figures = {f"val_{scorer.name}": score, "val_loss": loss}
    temperature = {} if network.task == "regression" else {"temperature": asked.temperature}
    resolved.teacher = {"members": rows, **figures, **temperature, "weight": asked.weight}


def check_phases(setup: TrainSetup, planned: list[Phase]) -> None:
    """Checks that the teacher can see what the student will see.

    Raises:
        UserError: the augmentation of a phase draws numbers of its own, so no two networks see the same images.
    """
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


def for_the_probe(setup: TrainSetup) -> Taught | None:
    """What the solver of the probe learns beside the labels of the training images; None without a teacher, or a probe."""
    teacher, network = setup.teacher, setup.network
    if teacher is None or network.head_init != "probe":
        return None
    answers = teacher.answers(setup.cache, setup.splits.train, network.size)
    return Taught(np.asarray(answers), teacher.asked.temperature, teacher.asked.weight)


def taught(setup: TrainSetup, phase: Phase, inputs: PhaseInputs) -> PhaseInputs:
    """The inputs of a phase with the teacher's answers among their targets (`optimization.distillation`); all are computed here.

    Cached augmentations have an answer each. Without a cache, the student sees as many augmentations of an image as the
    phase has epochs, and the teacher answers all of them. `mixup` and `cutmix` mix the answers as they mix the labels.

    Raises:
        UserError: the disk is full.
    """
    teacher, splits, size = setup.teacher, setup.splits, setup.network.size
    if teacher is None or not phase.epochs:
        return inputs
    views = _augmentations(setup, phase, inputs)
    if len(views) > 1:
        console.say(f"teacher: answers {len(views)} augmentations of {counted(len(splits.train), 'image')}")
    stored = [teacher.answers(setup.cache, splits.train, size, view) for view in views]
    answers, classes = pipeline.cached_activations(stored, DTYPE), len(splits.classes)
    rounds_of_phase, load = inputs.views or phase.epochs, inputs.load

    def load_taught(
        rounds: tf.Tensor, rows: tf.Tensor, labels: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        rounds = rounds % rounds_of_phase
        (given,) = answers(rounds, rows)
        own = tf.one_hot(labels, classes) if labels.dtype.is_integer else labels
        return load(rounds, rows, tf.concat([own, given], 1), *weights)

    return inputs._replace(load=load_taught)


def _augmentations(setup: TrainSetup, phase: Phase, inputs: PhaseInputs) -> list[CachedAugmentation]:
    """The augmentations of an image that a phase sees, in the order of its rounds."""
    given: dict[str, Any] = {"task": setup.network.task, "classes": len(setup.splits.classes)}
    # Mixing comes after all others, and draws numbers of its own.
    recipe = tuple(spec for spec in phase.augment if not augment.build((spec,), **given).mixes)
    if inputs.views == 1 or not recipe:
        return [UNAUGMENTED]
    layer, text = augment.build(recipe, **given), " | ".join(map(str, recipe))
    return [CachedAugmentation(layer, text, setup.config.seed, turn) for turn in range(inputs.views or phase.epochs)]
