"""The SavedModel: everything from encoded bytes to label names, in folders `NAME/VERSION`."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from kerasft.data import pipeline
from kerasft.data.decode import decode_batch
from kerasft.data.splits import Split
from kerasft.export import artefact, proof, serving_warmup, uncertainty_outputs
from kerasft.export.artefact import Answer, Artefact
from kerasft.export.model_folders import METADATA_FILE, SAVED_MODEL_FILE, next_version, read_metadata, versions
from kerasft.export.serving_outputs import answer_key, serving_outputs
from kerasft.networks import heads, layer_names
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError

# Classes that `serving_default` names, at most.
TOP_K = 5

# A function from the outputs of a version, by name, to the folder that takes it; None for its own.
Judge = Callable[[Mapping[str, np.ndarray]], Path | None]

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


def export(
    network: Network, answer: Answer, split: Split, expected: np.ndarray, folder: Path, warm: Split | None = None
) -> dict:
    """Writes `folder/VERSION`, the next version, after proving it.

    The signature `serving_default` takes `image_bytes` (string [N]). It gives `classes` (string [N, k]) and `scores`
    (float32 [N, k]) by falling score, with k = min(5, C), and `probabilities` (float32 [N, C]). For multi-label it also
    gives `predicted` (bool [N, C], from the thresholds on). For regression it gives `values` (float32 [N, D]) instead.
    The signature `images` takes `images` (float32 [N, S, S, 3], RGB in 0..255) and gives the same. The signature
    `features` takes `image_bytes` and gives `features` (float32 [N, D]), never of mirror images. `answer.uncertainty` adds the
    outputs of `uncertainty_outputs.serve` to the first two.

    A version that this run has published already is proven again, and not written twice.

    Args:
        network: the trained network.
        answer: names and thresholds.
        split: examples to prove it on.
        expected: float [N, C], the trained model's probabilities for them, or float [N, D], its values.
        folder: `saved_models/NAME`.
        warm: a few of these examples go into the folder, small and encoded anew. TensorFlow Serving warms up with
            them (see `serving_warmup`). None for none.

    Returns:
        `path`, and the figures of `proof.compare`.

    Raises:
        ParityError: a label, a probability or a value differs by more than `proof.TOLERANCE`.
    """
    return finish(start(network, answer, folder, warm), network, answer, split, expected)


def start(network: Network, answer: Answer, folder: Path, warm: Split | None = None) -> Path:
    """Writes a draft for `finish`, or gives the version that this run has published already; arguments as `export`."""
    for path in versions(folder):
        if read_metadata(path).get("run") == answer.run:
            return path

    def write_with_warmup(network: Network, answer: Answer, draft: Path) -> None:
        write(network, answer, draft)
        if warm is not None:
            chosen = np.unique(np.linspace(0, len(warm) - 1, serving_warmup.MAX_IMAGES).astype(int))
            serving_warmup.write(draft, folder.name, list(pipeline.decoded_images(warm, chosen, network.size)))

    return artefact.write_draft(replace(SAVED_MODEL, write=write_with_warmup), network, answer, folder)


def finish(
    path: Path,
    network: Network,
    answer: Answer,
    split: Split,
    expected: np.ndarray,
    extra_outputs: Mapping[str, proof.Expected] | None = None,
    judge: Judge | None = None,
) -> dict:
    """Proves what `start` gave, and puts a draft into its place; arguments, result and errors as `export`.

    Args:
        extra_outputs: what the extra outputs must be, as `proof.compare_extra_outputs` takes it. Its result is added.
        judge: is called with the outputs of `serving_outputs`, once they are proven. A draft goes into the folder that it
            returns, instead of into its own; None is its own.
    """
    compared, given = {}, {}
    asked = [*(extra_outputs or ()), *(["predicted"] if answer.thresholds is not None else [])]

    def outputs_of_all(folder: Path, network: Network, split: Split) -> np.ndarray:
        given.update(serving_outputs(folder, network.task, split, asked))
        compared.update(proof.compare_extra_outputs(SAVED_MODEL.name, given, extra_outputs or {}))
        return given[answer_key(network.task)]

    def place_judged(draft: Path, folder: Path) -> Path:
        other = judge(given) if judge else None
        return place(draft, folder) if other is None else copy(draft, other)

    proven = replace(SAVED_MODEL, outputs=outputs_of_all, place=place_judged)
    if path in versions(path.parent):
        result = {"path": path.as_posix(), **artefact.prove(proven, path, network, answer, split, expected)}
        if judge:
            judge(given)
    else:
        result = artefact.publish_draft(proven, path, network, answer, split, expected)
    return result | compared


def abandon(path: Path) -> None:
    """Removes what `start` gave, if it is a draft that is still there."""
    if path not in versions(path.parent):
        artefact.discard(path)


def write(network: Network, answer: Answer, folder: Path) -> None:
    """Writes a SavedModel with the signatures of `export` into a folder, without a proof."""
    names, size, framing = tf.constant(answer.classes), network.size, answer.framing
    fitted = uncertainty_outputs.in_graph(answer.uncertainty)
    embedding = network.model.get_layer(layer_names.FEATURES).output
    parts = keras.Model(network.model.inputs[0], [embedding, network.model.output, heads.last_depth(network.model)])
    image_spec = tf.TensorSpec([None, size, size, 3], tf.float32, "images")

    # Traced once for all signatures.
    @tf.function(input_signature=[image_spec])
    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(one, tf.float32) for one in parts(images, training=False)]

    def scored(images: tf.Tensor) -> dict[str, tf.Tensor]:
        _, outputs, last = forward(images)
        if network.tta == "flip":
            outputs = (outputs + forward(images[:, :, ::-1])[1]) / 2
        if network.task == "regression":
            return {"values": outputs} | uncertainty_outputs.serve(fitted, last, outputs, outputs)
        probabilities = tf.nn.softmax(outputs) if network.task == "single_label" else tf.sigmoid(outputs)
        scores, order = tf.math.top_k(probabilities, min(TOP_K, len(answer.classes)))
        given = {"classes": tf.gather(names, order), "scores": scores, "probabilities": probabilities}
        given |= uncertainty_outputs.serve(fitted, last, outputs, probabilities)
        return given | ({"predicted": probabilities >= answer.thresholds} if answer.thresholds is not None else {})

    encoded = tf.TensorSpec([None], tf.string, "image_bytes")

    # Traced once for both signatures that take bytes.
    @tf.function(input_signature=[encoded])
    def pixels(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.cast(decode_batch(image_bytes, size, framing), tf.float32)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return scored(pixels(image_bytes))

    def embedded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": forward(pixels(image_bytes))[0]}

    # An endpoint brings its variables along. A model that is tracked as well would be stored a second time.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", from_bytes, [encoded])
    archive.add_endpoint("images", scored, [image_spec])
    archive.add_endpoint("features", embedded, [encoded])
    archive.write_out(str(folder), verbose=False)
    metadata = {"run": answer.run, "task": network.task, "classes": list(answer.classes)}
    metadata |= {"image_size": size, "framing": framing, "tta": network.tta}
    (folder / METADATA_FILE).parent.mkdir(exist_ok=True)
    (folder / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n")


def outputs(folder: Path, network: Network, split: Split) -> np.ndarray:
    """What a SavedModel answers to the encoded bytes of examples: probabilities float32 [N, C], or values [N, D]."""
    return serving_outputs(folder, network.task, split)[answer_key(network.task)]


def copy(version: Path, folder: Path) -> Path:
    """Copies a version or a draft into another folder `NAME`, as its next version. The disk may be another one."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = artefact.draft_path(folder)
    artefact.discard(draft)
    try:
        shutil.copytree(version, draft)
        return place(draft, folder)
    finally:
        artefact.discard(draft)


def place(draft: Path, folder: Path) -> Path:
    """Renames the draft to the next version (`model_folders.next_version`); another run may take a number in between."""
    while True:
        path = next_version(folder)
        try:
            draft.rename(path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path


SAVED_MODEL = Artefact("SavedModel", write, outputs, place)


def load(path: Path, flag: str = "--model") -> Any:
    """The SavedModel of a folder that a flag names, as `tf.saved_model.load` gives it.

    Raises:
        UserError: it is damaged, and how.
    """
    try:
        # TensorFlow's own words for both name neither the file nor what is wrong.
        if not (path / SAVED_MODEL_FILE).stat().st_size:
            raise ValueError("saved_model.pb is empty")
        if not (path / "variables" / "variables.index").is_file():
            raise ValueError("its folder 'variables' is missing or incomplete")
        return tf.saved_model.load(str(path))
    except LOAD_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{flag}: the SavedModel cannot be loaded ({reason}). Received: '{path}'") from error
