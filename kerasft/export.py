"""Export: a SavedModel that holds everything from encoded bytes to label names, proven on the test set.

The folder appears only after the whole test set was scored through it, from the encoded bytes, and agreed with the
trained model.
"""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasft.data.splits import Split
from kerasft.decode import decode_batch
from kerasft.errors import UserError
from kerasft.model import Network

TOP = 5
TOLERANCE = 1e-4  # greatest difference of a probability, in float32
BATCH = 32


class ParityError(Exception):
    """The exported file does not score like the trained model."""


def export(network: Network, classes: tuple[str, ...], split: Split, expected: np.ndarray, folder: Path) -> dict:
    """Writes `folder/VERSION`, the next free version, after proving it.

    Signatures: `serving_default` takes `image_bytes` (string [N]) and gives `classes` (string [N, k]) and `scores`
    (float32 [N, k]), by falling score with k = min(5, C), and `probabilities` (float32 [N, C]); `images` takes
    `images` (float32 [N, S, S, 3], RGB in 0..255) and gives the same; `features` takes `image_bytes` and gives
    `features` (float32 [N, D]).

    Args:
        network: the trained network.
        classes: C label names.
        split: examples to prove it on.
        expected: float [N, C], the trained model's probabilities for them.
        folder: `saved_models/NAME`.

    Returns:
        `path`, `max_abs_diff`, `top1_agreement` and `n`, as in `metrics.json`.

    Raises:
        ParityError: a label or a probability differs by more than `TOLERANCE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft-{os.getpid()}"  # a server that watches the folder looks at whole numbers only
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(network, classes, draft)
        result = _prove(draft, split, expected)
        path = _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {"path": path.as_posix(), **result}


def _write(network: Network, classes: tuple[str, ...], folder: Path) -> None:
    names, size = tf.constant(classes), network.size
    features = keras.Model(network.model.inputs[0], network.model.get_layer("features").output)

    def scored(images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(tf.cast(network.model(images, training=False), tf.float32))
        scores, order = tf.math.top_k(probabilities, min(TOP, len(classes)))
        return {"classes": tf.gather(names, order), "scores": scores, "probabilities": probabilities}

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return scored(tf.cast(decode_batch(image_bytes, size), tf.float32))

    def embedded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        pictures = tf.cast(decode_batch(image_bytes, size), tf.float32)
        return {"features": tf.cast(features(pictures, training=False), tf.float32)}

    encoded = tf.TensorSpec([None], tf.string, "image_bytes")
    archive = keras.export.ExportArchive()
    archive.track(network.model)
    archive.add_endpoint("serving_default", from_bytes, [encoded])
    archive.add_endpoint("images", scored, [tf.TensorSpec([None, size, size, 3], tf.float32, "images")])
    archive.add_endpoint("features", embedded, [encoded])
    archive.write_out(str(folder), verbose=False)


def _prove(folder: Path, split: Split, expected: np.ndarray) -> dict:
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    found = []
    for start in range(0, len(split), BATCH):
        contents = [split.read(index) for index in range(start, min(start + BATCH, len(split)))]
        found.append(serve(image_bytes=tf.constant(contents))["probabilities"].numpy())
    probabilities = np.concatenate(found)
    difference = float(np.abs(probabilities - expected).max())
    # Two scores nearer than twice the tolerance may change places without anything being wrong.
    margin = np.take_along_axis(expected, expected.argmax(-1)[:, None], 1) - np.take_along_axis(
        expected, probabilities.argmax(-1)[:, None], 1
    )
    agreement = float((probabilities.argmax(-1) == expected.argmax(-1)).mean())
    if not difference <= TOLERANCE or margin.max() > 2 * TOLERANCE:
        raise ParityError(
            f"export: the SavedModel differs from the trained model by up to {difference:.3g} in a probability "
            f"(at most {TOLERANCE:g}) and agrees on {agreement:.2%} of {len(split)} labels; nothing was exported."
        )
    return {"max_abs_diff": difference, "top1_agreement": agreement, "n": len(split)}


def _publish(draft: Path, folder: Path) -> Path:
    """Renames the draft to the next free version; another run may take a number in between."""
    while True:
        taken = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
        path = folder / str(max(taken, default=0) + 1)
        try:
            draft.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path


def newest(model: str) -> Path:
    """The version folder that `--model` names: itself, or the highest number below it.

    Raises:
        UserError: there is no SavedModel there.
    """
    path = Path(model)
    if (path / "saved_model.pb").is_file():
        return path
    versions = (
        [p for p in path.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").is_file()] if path.is_dir() else []
    )
    if not versions:
        raise UserError(f"--model: must be a SavedModel, or a folder of numbered ones. Received: {model!r}")
    return max(versions, key=lambda p: int(p.name))
