"""A SavedModel on disk, loaded into this process."""

import hashlib
from pathlib import Path

import tensorflow as tf

from kerasft.data import image_headers
from kerasft.export import saved_model
from kerasft.predict.predictions import Model, Prediction, RefusedBatch, refused_batch, to_predictions
from kerasft.settings.errors import UserError


def load(model: str) -> Model:
    """Loads the model that `--model` names.

    Two batches are computed at once: the cores work on one while the files of the other are read or its rows are written.

    Raises:
        UserError: there is no model, it is damaged, or its input is not encoded images.
    """
    path = saved_model.newest(model)
    loaded = saved_model.load(path)
    serve = loaded.signatures.get("serving_default")
    if serve is None or "image_bytes" not in serve.structured_input_signature[1]:
        raise UserError(
            "--model: must be a SavedModel that kerasft has exported, with a signature serving_default that takes "
            f"image_bytes. Received: '{path}'"
        )
    metadata = saved_model.read_metadata(path)
    names = metadata.get("classes") or []

    def predict(contents: list[bytes], _alive=loaded) -> list[Prediction]:
        for one in contents:
            _check_size(one)
        try:
            given = serve(image_bytes=tf.constant(contents))
        except tf.errors.InvalidArgumentError as error:
            raise refused_batch(error.message) from None
        return to_predictions({name: value.numpy() for name, value in given.items()}, names)

    digest = _digest(path)
    return Model(predict, lambda: digest, metadata.get("task", ""), names, concurrency=2)


def _check_size(contents: bytes) -> None:
    """Raises RefusedBatch for a size that the audit rejects too. The model finds all other mistakes."""
    try:
        fault = image_headers.find_size_fault(contents)
    except ValueError as error:
        raise RefusedBatch(f"the image is incomplete ({error})") from None
    if fault:
        raise RefusedBatch(fault[1])


def _digest(folder: Path) -> str:
    """Returns the SHA-256 of a SavedModel's files. It does not depend on the folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
