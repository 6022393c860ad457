"""A model on disk, loaded into this process: a SavedModel, or an artefact for another runtime."""

import hashlib
from pathlib import Path

from kerasft import runtimes
from kerasft.export import model_folders
from kerasft.predict.predictions import Model, Prediction, check_size, refused_batch, to_predictions
from kerasft.settings.errors import UserError


def load(model: str, artefact: str = "") -> Model:
    """Loads the model that `--model` and `--artefact` name.

    Two batches are computed at once: the cores work on one while the files of the other are read or its rows are written.

    Raises:
        UserError: there is no model, it is damaged, its runtime is missing, its input is not encoded images, or its outputs are others.
    """
    path = model_folders.newest(model, artefact)
    loaded = runtimes.load(path, warm_up=())
    serve = loaded.signatures["serving_default"]
    answers = "values" in serve.outputs or {"classes", "scores", "probabilities"} <= serve.outputs.keys()
    if serve.name != "image_bytes" or not answers:
        raise UserError(
            "--model: must be a SavedModel that kerasft has exported, with a signature serving_default that takes "
            f"image_bytes and gives values, or classes, scores and probabilities. Received: '{path}'"
        )
    names = loaded.metadata.get("classes") or []

    def predict(contents: list[bytes]) -> list[Prediction]:
        for one in contents:
            check_size(one)
        try:
            return to_predictions(serve.call(contents), names)
        except runtimes.InvalidImage as error:
            raise refused_batch(str(error)) from None

    digest = _digest(path)
    return Model(predict, lambda: digest, loaded.metadata.get("task", ""), names, concurrency=2)


def _digest(folder: Path) -> str:
    """Returns the SHA-256 of a model folder's files. It does not depend on the folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
