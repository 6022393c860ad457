"""The teacher of a run (`--teacher`), loaded: its answers for the images of the student, computed once and kept in the cache.

It sees the student's images: decoded, framed and augmented in the same way, and resized to its own size. Its network is called
in inference mode and never trained.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft.data import decode
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.export import saved_model
from kerasft.networks import flip_averaging, heads, saved_files
from kerasft.optimization.distillation import Projection
from kerasft.settings.distillation import Distillation, TeacherFiles
from kerasft.settings.errors import UserError
from kerasft.storage import feature_cache, file_digest, manifest, predictions_file, run_folder
from kerasft.storage.disk_cache import DiskCache
from kerasft.storage.feature_cache import UNAUGMENTED, CachedAugmentation, Prefix

# Answers are stored and compared in this dtype.
DTYPE = "float32"

# Numbers that stand for the features of a teacher.
TAUGHT_FEATURES = 128

# A function from images float32 [B, S, S, 3] in 0..255 to probabilities float32 [B, C], or values [B, D], and features [B, P].
Member = Callable[[tf.Tensor], tf.Tensor]


class Teacher(NamedTuple):
    """A teacher that is loaded.

    Attributes:
        asked: what it teaches, and how.
        prefix: images of the student's size to the answers; its digest is that of the files.
        digests: SHA-256 of the files of each of `asked.teachers`.
        outputs: C, or D.
        projection: from the student's features at its start to the teacher's, where these are taught.
    """

    asked: Distillation
    prefix: Prefix
    digests: tuple[str, ...]
    outputs: int
    projection: Projection | None = None

    def answers(
        self, cache: DiskCache, split: Split, size: int, augmentation: CachedAugmentation = UNAUGMENTED
    ) -> np.ndarray:
        """The answers for all images of a split, float32 [N, C] probabilities or [N, D] values; from the cache if they are there."""
        return self.rows(cache, split, size, augmentation)[:, : self.outputs]

    def rows(self, cache: DiskCache, split: Split, size: int, augmentation: CachedAugmentation) -> np.ndarray:
        """The answers, followed by P features where these are taught, float32 [N, C + P]."""
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


def load(asked: Distillation, size: int, classes: tuple[str, ...]) -> Teacher:
    """Loads the teachers.

    Args:
        size: side of the student's images in pixels.
        classes: the student's, in whose order the answers come.

    Raises:
        UserError: one cannot be loaded.
    """
    images = keras.Input((size, size, 3), dtype=DTYPE, name="images")
    with_features = bool(asked.features_weight)
    members = [_member(files, size, classes, with_features=with_features) for files in asked.teachers]
    taught = len(classes) + TAUGHT_FEATURES * with_features
    model = keras.Model(images, MeanAnswer(members, taught)(images), name="teacher")
    digests = tuple(file_digest.compute(files.model) for files in asked.teachers)
    parts = tf.__version__, keras.__version__, decode.DECODER_VERSION, classes, sorted(digests)
    digest = hashlib.sha256(repr(("teacher", *parts, taught)).encode()).hexdigest()
    return Teacher(asked, Prefix(model, digest, scoring.make_predictor(model)), digests, len(classes))


def _member(files: TeacherFiles, size: int, classes: tuple[str, ...], *, with_features: bool) -> Member:
    network = _saved_model(files) if files.model.is_dir() else _keras_model(files, with_features=with_features)
    order = [files.classes.index(name) for name in classes]

    def answer(images: tf.Tensor) -> tf.Tensor:
        if files.size != size:
            images = tf.image.resize(images, (files.size, files.size), antialias=True)
        answers, *features = network(images)
        return tf.concat([tf.gather(answers, order, axis=1), *features], 1)

    return answer


def _keras_model(files: TeacherFiles, *, with_features: bool) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    try:
        model = saved_files.read(files.model)
    except saved_files.REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--teacher: Keras cannot load {files.model} ({reason}). Received: {files.path!r}") from error
    activations = {"single_label": tf.nn.softmax, "multi_label": tf.sigmoid, "regression": tf.identity}
    activation = activations[files.task]
    if not with_features:
        return lambda images: [activation(tf.cast(model(images, training=False), tf.float32))]
    plain = flip_averaging.without_mirroring(model)
    both = keras.Model(plain.inputs[0], [plain.outputs[0], heads.last_depth(plain)])
    width = both.outputs[1].shape[-1]
    # A random projection keeps distances well, and a hundred numbers an image are soon stored (Johnson and Lindenstrauss 1984).
    kernel = np.random.default_rng(0).normal(0, width**-0.5, (width, TAUGHT_FEATURES)).astype(np.float32)

    def answers_and_features(images: tf.Tensor) -> list[tf.Tensor]:
        outputs, features = both(images, training=False)
        # Under `--tta` the answers are means over mirror images.
        outputs = outputs if plain is model else model(images, training=False)
        return [activation(tf.cast(outputs, tf.float32)), tf.cast(features, tf.float32) @ kernel]

    return answers_and_features


def _saved_model(files: TeacherFiles) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    try:
        loaded = saved_model.load(files.model)
    except UserError as error:
        raise UserError(str(error).replace("--model:", "--teacher:", 1)) from error
    key, serve = "values" if files.task == "regression" else "probabilities", loaded.signatures["images"]
    # The signature needs the loaded model, which owns its variables.
    return lambda images, _alive=loaded: [serve(images=images)[key]]


def count_learned(files: TeacherFiles, test: Split) -> int:
    """How many test images of a student a teacher has learned from, or was chosen on; 0 where its folder does not tell.

    A run folder has the digests of all its files, and the names of those that it was tested on. A SavedModel has neither.
    """
    folder = files.model.parent
    digests = manifest.read_digests(folder) if files.model.is_file() else {}
    # Of files over a limit the folder does not tell which they are.
    if not digests or run_folder.read_json(folder / "config.json").get("per_class_limit"):
        return 0
    try:
        tested = predictions_file.read(folder, "ids")["ids"].tolist()
    except (OSError, UserError):
        return 0
    learned = {digest for digest in digests.values() if digest} - {digests.get(name) for name in tested}
    return sum(hashlib.sha256(test.read(index)).hexdigest() in learned for index in range(len(test)))
