"""The versions of a model on disk: finds the one to serve, loads it and warms it up before the first request."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from kerasft.export.saved_model import load as load_model
from kerasft.export.saved_model import newest, read_metadata, versions
from kerasft.report.model_card import FILE as MODEL_CARD
from kerasft.settings.errors import UserError

Fingerprint = tuple[tuple[str, int, int], ...]


class Signature(NamedTuple):
    """A signature of a model with one input.

    Attributes:
        name: of its only input.
        spec: shape and dtype of that input.
        outputs: specs by name.
        call: from N instances (bytes, or arrays of `spec.shape[1:]`) to outputs [N, ...].
    """

    name: str
    spec: tf.TensorSpec
    outputs: dict[str, tf.TensorSpec]
    call: Callable[[list], dict[str, np.ndarray]]

    @property
    def encoded(self) -> bool:
        """Whether the input is encoded images."""
        return self.spec.dtype == tf.string


class Version(NamedTuple):
    """A loaded SavedModel.

    Attributes:
        number: the folder's name, or 1.
        path: its folder.
        fingerprint: names, sizes and times of the folder's files when it was loaded.
        metadata: task, classes and image size (`export.saved_model.read_metadata`).
        signatures: by name.
        definitions: `signature_def` of the SavedModel as JSON, for TensorFlow Serving's metadata.
    """

    number: int
    path: Path
    fingerprint: Fingerprint
    metadata: dict
    signatures: dict[str, Signature]
    definitions: dict


class Source(NamedTuple):
    """What `--model` names: a folder of versions, or one version (`pinned`)."""

    name: str
    folder: Path
    pinned: bool


def find_source(model: str) -> Source:
    """Returns the Source of a `--model`.

    Raises:
        UserError: it has no SavedModel.
    """
    newest(model)
    path = Path(model).resolve()
    pinned = (path / "saved_model.pb").is_file()
    return Source(path.parent.name if pinned and path.name.isdecimal() else path.name, path, pinned)


def find_newest(source: Source, failed: dict[Path, Fingerprint]) -> Path | None:
    """Returns the highest version, or None. Skips versions that failed to load and have not changed since."""
    paths = [source.folder] if source.pinned else versions(source.folder)
    return next(
        (path for path in reversed(paths) if failed.get(path) is None or failed[path] != fingerprint(path)), None
    )


def fingerprint(path: Path) -> Fingerprint:
    """Returns names, sizes and times of a folder's files. They change while a file is copied or replaced.

    The model card is left out: it is written when the version is in its place already.
    """
    try:
        files = [(file, file.stat()) for file in sorted(path.rglob("*")) if MODEL_CARD not in file.name]
    # The folder is being removed.
    except OSError:
        return ()
    return tuple((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in files)


def load(path: Path, batch: int) -> Version:
    """Loads a version and runs it on one image and on a whole batch, so that the first request is as fast as any other.

    Raises:
        export.saved_model.LOAD_ERRORS: a signature fails.
        UserError: the version cannot be loaded, or `serving_default` does not have one input with a free batch dimension.
    """
    fingerprint_before = fingerprint(path)
    loaded = load_model(path)
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    signatures = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]
        (key, spec), *more = inputs.items()
        if not more and spec.shape.rank and spec.shape[0] is None and spec.shape[1:].is_fully_defined():
            signatures[name] = Signature(
                key,
                spec,
                dict(sorted(function.structured_outputs.items())),
                partial(_call_signature, loaded, name, key),
            )
    if "serving_default" not in signatures:
        raise UserError(
            f"--model: a signature 'serving_default' of one input is needed, as kerasft exports it. Received: '{path}'"
        )
    for signature in signatures.values():
        _warm_up(signature, batch)
    number = int(path.name) if path.name.isdecimal() else 1
    return Version(number, path, fingerprint_before, read_metadata(path), signatures, _definitions(graph))


def _call_signature(loaded, name: str, key: str, instances: list) -> dict[str, np.ndarray]:
    """Calls a signature. The reference to `loaded` keeps its variables alive."""
    outputs = loaded.signatures[name](**{key: tf.constant(instances)})
    # TensorFlow gives them in any order.
    return {name: outputs[name].numpy() for name in sorted(outputs)}


def _warm_up(signature: Signature, batch: int) -> None:
    if signature.encoded:
        file = io.BytesIO()
        Image.new("RGB", (500, 375), (90, 120, 60)).save(file, "JPEG")
        instance = file.getvalue()
    else:
        instance = np.zeros(signature.spec.shape[1:], signature.spec.dtype.as_numpy_dtype)
    for count in (1, batch):
        signature.call([instance] * count)


def _definitions(graph) -> dict:
    """Returns `signature_def` as protocol buffer JSON with the fields that TensorFlow Serving shows."""
    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in graph.signature_def.items()
    }
