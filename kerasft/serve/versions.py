"""The versions of a model on disk: which one to serve, and loading it, warm, before anybody asks."""

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
from kerasft.settings.errors import UserError

Fingerprint = tuple[tuple[str, int, int], ...]


class Signature(NamedTuple):
    """One way to ask a model.

    Attributes:
        name: of its only input.
        spec: shape and dtype of that input.
        outputs: specs by name.
        call: N rows (bytes, or arrays of `spec.shape[1:]`) to outputs [N, ...].
    """

    name: str
    spec: tf.TensorSpec
    outputs: dict[str, tf.TensorSpec]
    call: Callable[[list], dict[str, np.ndarray]]

    @property
    def encoded(self) -> bool:
        """Whether it takes encoded pictures."""
        return self.spec.dtype == tf.string


class Version(NamedTuple):
    """A loaded SavedModel.

    Attributes:
        number: the folder's name, or 1.
        path: its folder.
        fingerprint: what the folder's files looked like.
        metadata: what it says of itself (`export.read_metadata`).
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
    """What `--model` names: a folder of versions, or one of them (`pinned`)."""

    name: str
    folder: Path
    pinned: bool


def source(model: str) -> Source:
    """The Source of a `--model`.

    Raises:
        UserError: there is no SavedModel there.
    """
    newest(model)
    path = Path(model).resolve()
    pinned = (path / "saved_model.pb").is_file()
    return Source(path.parent.name if pinned and path.name.isdecimal() else path.name, path, pinned)


def best(source: Source, refused: dict[Path, Fingerprint]) -> Path | None:
    """The highest version, passing over those that could not be loaded and have not changed since; None without any."""
    found = [source.folder] if source.pinned else versions(source.folder)
    return next(
        (path for path in reversed(found) if refused.get(path) is None or refused[path] != fingerprint(path)), None
    )


def fingerprint(path: Path) -> Fingerprint:
    """Names, sizes and times of a folder's files; changes while one is copied or replaced."""
    try:
        files = [(file, file.stat()) for file in sorted(path.rglob("*"))]
    except OSError:  # it is going away
        return ()
    return tuple((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in files)


def load(path: Path, batch: int) -> Version:
    """Loads a version and has it answer a picture alone and a batch, so that the first request is as quick as any.

    Raises:
        export.saved_model.LOAD_ERRORS: it does not answer.
        UserError: it cannot be loaded, or has no `serving_default` of one input that starts with the batch.
    """
    before = fingerprint(path)
    loaded = load_model(path)
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    signatures = {}
    for name, function in loaded.signatures.items():
        taken = function.structured_input_signature[1]
        (key, spec), *more = taken.items()
        if not more and spec.shape.rank and spec.shape[0] is None and spec.shape[1:].is_fully_defined():
            signatures[name] = Signature(
                key, spec, dict(sorted(function.structured_outputs.items())), partial(_call, loaded, name, key)
            )
    if "serving_default" not in signatures:
        raise UserError(
            f"--model: a signature 'serving_default' of one input is needed, as kerasft exports it. Received: '{path}'"
        )
    for signature in signatures.values():
        _warm(signature, batch)
    number = int(path.name) if path.name.isdecimal() else 1
    return Version(number, path, before, read_metadata(path), signatures, _definitions(graph))


def _call(loaded, name: str, key: str, rows: list) -> dict[str, np.ndarray]:
    """One call of a signature; holding `loaded`, without which its variables would go away."""
    outputs = loaded.signatures[name](**{key: tf.constant(rows)})
    return {name: outputs[name].numpy() for name in sorted(outputs)}  # TensorFlow has them in any order


def _warm(signature: Signature, batch: int) -> None:
    if signature.encoded:
        file = io.BytesIO()
        Image.new("RGB", (500, 375), (90, 120, 60)).save(file, "JPEG")
        row = file.getvalue()
    else:
        row = np.zeros(signature.spec.shape[1:], signature.spec.dtype.as_numpy_dtype)
    for count in (1, batch):
        signature.call([row] * count)


def _definitions(graph) -> dict:
    """`signature_def` in the JSON form of protocol buffers, with the fields that TensorFlow Serving shows."""
    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in graph.signature_def.items()
    }
