"""Export: a SavedModel that holds everything from encoded bytes to label names, proven on the test set.

The folder appears only after the whole test set was scored through it, from the encoded bytes, and agreed with the
trained model.
"""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kerasft.data.decode import decode_batch
from kerasft.data.splits import Split
from kerasft.export import serving_warmup
from kerasft.networks import layer_names
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError

TOP_K = 5
TOLERANCE = 1e-4  # greatest difference of a probability, in float32; of a value, in deviations of its target
PROOF_BATCH = 32
METADATA_FILE = Path("assets.extra", "kerasft.json")  # beside the model, where TensorFlow Serving wants extra files


# What TensorFlow raises of a damaged folder.
LOAD_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    DecodeError,
    tf.errors.OpError,
)


class ParityError(Exception):
    """The exported file does not score like the trained model."""


class Answer(NamedTuple):
    """What a SavedModel is to say, beside its weights.

    Attributes:
        run: an identifier of the run; a version that it has published already is proven again, not written twice.
        classes: names of the C classes or the D targets.
        thresholds: float32 [C] for multi-label, from which probability on a class counts as present.
        scale: float [D] for regression, deviation of the training targets.
    """

    run: str
    classes: tuple[str, ...]
    thresholds: np.ndarray | None = None
    scale: np.ndarray | None = None


def export(
    network: Network, answer: Answer, split: Split, expected: np.ndarray, folder: Path, warm: Split | None = None
) -> dict:
    """Writes `folder/VERSION`, the next free version, after proving it.

    Signatures: `serving_default` takes `image_bytes` (string [N]) and gives `classes` (string [N, k]) and `scores`
    (float32 [N, k]), by falling score with k = min(5, C), and `probabilities` (float32 [N, C]); for multi-label also
    `predicted` (bool [N, C], from the thresholds on); for regression `values` (float32 [N, D]) instead of all these.
    `images` takes `images` (float32 [N, S, S, 3], RGB in 0..255) and gives the same; `features` takes `image_bytes`
    and gives `features` (float32 [N, D]).

    Args:
        network: the trained network.
        answer: names and thresholds.
        split: examples to prove it on.
        expected: float [N, C], the trained model's probabilities for them, or float [N, D], its values.
        folder: `saved_models/NAME`.
        warm: examples of which a few go into the folder, small and encoded anew, for TensorFlow Serving to warm up
            with (see `warmup`); None for none.

    Returns:
        `path`, `max_abs_diff`, `top1_agreement` (not for regression) and `n`, as in `metrics.json`.

    Raises:
        ParityError: a label, a probability or a value differs by more than `TOLERANCE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in versions(folder):
        if read_metadata(path).get("run") == answer.run:
            return {"path": path.as_posix(), **_prove(path, network.task, answer, split, expected)}
    _sweep(folder)
    draft = (
        folder / f".draft-{platform.node()}-{os.getpid()}"
    )  # a server that watches the folder looks at whole numbers only
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(network, answer, draft)
        if warm is not None:
            chosen = np.unique(np.linspace(0, len(warm) - 1, serving_warmup.PICTURES).astype(int))
            contents = tf.constant([warm.read(int(i)) for i in chosen])
            serving_warmup.write(draft, folder.name, list(decode_batch(contents, network.size)))
        result = _prove(draft, network.task, answer, split, expected)
        path = _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {"path": path.as_posix(), **result}


def read_metadata(path: Path) -> dict:
    """What a version says of itself: `run`, `task`, `classes`, `image_size`; empty where it says nothing."""
    try:
        return json.loads((path / METADATA_FILE).read_text())
    except (OSError, ValueError):
        return {}


def _write(network: Network, answer: Answer, folder: Path) -> None:
    names, size = tf.constant(answer.classes), network.size
    both = keras.Model(
        network.model.inputs[0], [network.model.get_layer(layer_names.FEATURES).output, network.model.output]
    )
    pictures = tf.TensorSpec([None, size, size, 3], tf.float32, "images")

    @tf.function(input_signature=[pictures])  # traced once for all signatures
    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(one, tf.float32) for one in both(images, training=False)]

    def scored(images: tf.Tensor) -> dict[str, tf.Tensor]:
        _, outputs = forward(images)
        if network.task == "regression":
            return {"values": outputs}
        probabilities = tf.nn.softmax(outputs) if network.task == "single_label" else tf.sigmoid(outputs)
        scores, order = tf.math.top_k(probabilities, min(TOP_K, len(answer.classes)))
        given = {"classes": tf.gather(names, order), "scores": scores, "probabilities": probabilities}
        return given | ({"predicted": probabilities >= answer.thresholds} if answer.thresholds is not None else {})

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return scored(tf.cast(decode_batch(image_bytes, size), tf.float32))

    def embedded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": forward(tf.cast(decode_batch(image_bytes, size), tf.float32))[0]}

    encoded = tf.TensorSpec([None], tf.string, "image_bytes")
    # An endpoint brings its variables along. A model that is tracked beside it would be stored a second time.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", from_bytes, [encoded])
    archive.add_endpoint("images", scored, [pictures])
    archive.add_endpoint("features", embedded, [encoded])
    archive.write_out(str(folder), verbose=False)
    metadata = {"run": answer.run, "task": network.task, "classes": list(answer.classes), "image_size": size}
    (folder / METADATA_FILE).parent.mkdir(exist_ok=True)
    (folder / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n")


def _prove(folder: Path, task: str, answer: Answer, split: Split, expected: np.ndarray) -> dict:
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    for contents in serving_warmup.requests(
        folder
    ):  # one that failed would keep TensorFlow Serving from loading the model
        serve(image_bytes=contents)
    key = "values" if task == "regression" else "probabilities"
    found = []
    for start in range(0, len(split), PROOF_BATCH):
        contents = [split.read(index) for index in range(start, min(start + PROOF_BATCH, len(split)))]
        found.append(serve(image_bytes=tf.constant(contents))[key].numpy())
    given = np.concatenate(found)
    gap = np.abs(given - expected)
    result = {"max_abs_diff": float(gap.max())}
    worst = float((gap if answer.scale is None else gap / answer.scale).max())
    wrong = not worst <= TOLERANCE
    if task != "regression":
        # Two scores nearer than twice the tolerance may change places without anything being wrong.
        margin = np.take_along_axis(expected, expected.argmax(-1)[:, None], 1) - np.take_along_axis(
            expected, given.argmax(-1)[:, None], 1
        )
        result["top1_agreement"] = float((given.argmax(-1) == expected.argmax(-1)).mean())
        wrong = wrong or margin.max() > 2 * TOLERANCE
    if wrong:
        raise ParityError(
            f"export: the SavedModel differs from the trained model by up to {worst:.3g} (at most {TOLERANCE:g}) "
            f"on {len(split)} test pictures; nothing was exported."
        )
    return {**result, "n": len(split)}


def _publish(draft: Path, folder: Path) -> Path:
    """Renames the draft to the next free version; another run may take a number in between."""
    while True:
        path = folder / str(max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0) + 1)
        try:
            draft.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path


def _sweep(folder: Path) -> None:
    """Removes the drafts of this machine's processes that were killed."""
    for path in folder.glob(f".draft-{platform.node()}-*"):
        number = path.name.rpartition("-")[2]
        try:
            os.kill(int(number), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            pass  # somebody else's, and alive


def versions(folder: Path) -> list[Path]:
    """The SavedModels among the numbered folders, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isdecimal() and (path / "saved_model.pb").is_file()]
    return sorted(found, key=lambda path: int(path.name))


def newest(model: str) -> Path:
    """The version folder that `--model` names: itself, or the highest number below it.

    Raises:
        UserError: there is no SavedModel there.
    """
    path = Path(model)
    if (path / "saved_model.pb").is_file():
        return path
    found = versions(path)
    if not found:
        raise UserError(f"--model: must be a SavedModel, or a folder of numbered ones. Received: {model!r}")
    return found[-1]


def load(path: Path) -> Any:
    """The SavedModel of a folder, as `tf.saved_model.load` gives it.

    Raises:
        UserError: it is damaged, and how.
    """
    try:
        # Said before TensorFlow has a look: its own words for both name neither the file nor what is wrong.
        if not (path / "saved_model.pb").stat().st_size:
            raise ValueError("saved_model.pb is empty")
        if not (path / "variables" / "variables.index").is_file():
            raise ValueError("its folder 'variables' is missing or incomplete")
        return tf.saved_model.load(str(path))
    except LOAD_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"--model: the SavedModel cannot be loaded ({reason}). Received: '{path}'") from error
