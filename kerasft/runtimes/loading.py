"""Loads a model folder with the runtime that its files need, and lets it answer once."""

import importlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image

from kerasft.export import model_folders
from kerasft.runtimes.model import LoadedModel, Signature
from kerasft.settings import imports
from kerasft.settings.errors import UserError

# What a runtime is called, the package that it needs, and how that is installed.
RUNTIMES = {
    "savedmodel": ("SavedModel", "tensorflow", "kerasft"),
    "onnx": ("ONNX artefact", "onnxruntime", "kerasft[lite]"),
    "litert": ("LiteRT artefact", "ai_edge_litert", "kerasft[lite]"),
    "openvino": ("OpenVINO artefact", "openvino", "kerasft[lite]"),
    "keras": ("Keras artefact", "keras", "kerasft"),
}


def load(folder: Path, warm_up: tuple[int, ...] = (1,)) -> LoadedModel:
    """Loads a model and runs each signature, so that the first request is as fast as any other.

    Args:
        folder: that `model_folders` gave.
        warm_up: numbers of images in the calls that each signature answers.

    Raises:
        UserError: the model is damaged, or its runtime is not installed.
    """
    runtime = model_folders.runtime_of(folder)
    if runtime is None:
        raise UserError(f"--model: {model_folders.MODEL_RULE}. Received: '{folder}'")
    title, package, extra = RUNTIMES[runtime]
    if importlib.util.find_spec(package) is None:
        rule = f"this {title} needs the package {package}: pip install '{extra}'"
        raise UserError(f"--model: {rule}. Received: '{folder}'")
    try:
        # One file for TensorFlow, one for all others.
        name = "saved_model" if runtime == "savedmodel" else "portable"
        with imports.without_garbage_collection():
            model = importlib.import_module(f"kerasft.runtimes.{name}").load(folder)
        for signature in model.signatures.values():
            _run(signature, warm_up)
    except UserError:
        raise
    # Runtimes raise anything for a damaged file.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"--model: the {title} cannot be loaded ({reason}). Received: '{folder}'") from error
    return model


def _run(signature: Signature, counts: tuple[int, ...]) -> None:
    if signature.encoded:
        file = io.BytesIO()
        Image.new("RGB", (500, 375), (90, 120, 60)).save(file, "JPEG")
        instance = file.getvalue()
    else:
        instance = np.zeros(signature.spec.shape[1:], signature.spec.dtype)
    for count in counts:
        signature.call([instance] * count)
