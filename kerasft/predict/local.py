"""A SavedModel on disk, loaded into this process."""

import hashlib
from pathlib import Path

import tensorflow as tf

from kerasft.data import image_headers
from kerasft.export import saved_model
from kerasft.predict.predictions import Model, Prediction, RefusedBatch, refused, to_predictions
from kerasft.settings.errors import UserError


def load(model: str) -> Model:
    """The model that `--model` names.

    Two batches are under way at once: while one is waited for on disk, or written down, the other one has the cores.

    Raises:
        UserError: there is none, it is damaged, or it takes no encoded pictures.
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

    def answer(contents: list[bytes], _alive=loaded) -> list[Prediction]:
        for one in contents:
            _refuse_size(one)
        try:
            given = serve(image_bytes=tf.constant(contents))
        except tf.errors.InvalidArgumentError as error:
            raise refused(error.message) from None
        return to_predictions({name: value.numpy() for name, value in given.items()}, names)

    digest = _digest(path)
    return Model(answer, lambda: digest, metadata.get("task", ""), names, concurrency=2)


def _refuse_size(contents: bytes) -> None:
    """Raises RefusedBatch for a size that the audit rejects too. The model reports every other fault."""
    try:
        fault = image_headers.find_size_fault(contents)
    except ValueError as error:
        raise RefusedBatch(f"is not a whole picture ({error})") from None
    if fault:
        raise RefusedBatch(fault[1])


def _digest(folder: Path) -> str:
    """SHA-256 of a SavedModel's files: wherever it is moved to, it is the same model."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
