"""An artefact for another runtime (`export/portable/`), with the decoder and the program that its proof used.

The code is that of kerasft. The program that lies in the folder is not run: a model from elsewhere is data.
"""

import importlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerasft.data import file_traits, image_headers
from kerasft.export import model_folders
from kerasft.export.standalone.image_decoding import decode
from kerasft.runtimes.model import STRING, InvalidImage, LoadedModel, Signature, TensorSpec
from kerasft.settings import machine
from kerasft.settings.errors import UserError

# Classes that an answer names, at most: as in a SavedModel.
TOP_K = 5

# The framework and the file format, as the Open Inference Protocol writes them.
PLATFORMS = {"onnx": "onnx_onnxv1", "litert": "litert_tflite", "openvino": "openvino_ir", "keras": "keras_npz"}

# Decoded images of a batch at a time. More are no faster, and need more memory.
IMAGES_IN_MEMORY = 8

TASKS = ("single_label", "multi_label", "regression")

# How TensorFlow Serving writes a dtype.
_TYPE_NAMES = {STRING: "DT_STRING", np.dtype(np.float32): "DT_FLOAT", np.dtype(bool): "DT_BOOL"}


def load(folder: Path) -> LoadedModel:
    """Loads an artefact. It has the signatures `serving_default` and `images` of the SavedModel, with the same outputs.

    It has no `features`, and nothing of `--abstain` and `--coverage`: the file holds the answers alone.

    Raises:
        UserError: `model.json` or `labels.txt` is missing, damaged, or does not fit the model.
    """
    runtime = model_folders.runtime_of(folder)
    about = model_folders.read_metadata(folder)
    size, framing, task, names = (about.get(key) for key in ("image_size", "framing", "task", "classes"))
    thresholds = np.asarray(about.get("thresholds") or (), np.float32)
    if not isinstance(size, int) or not names or task not in TASKS:
        files = f"{model_folders.ABOUT_FILE} and {model_folders.LABELS_FILE}"
        raise UserError(f"--model: {files} in its folder must be those that kerasft wrote. Received: '{folder}'")
    if runtime == "keras":
        # They register the layers of ours that a head and a backbone of KerasHub may have.
        for module in ("heads", "hub_layers"):
            importlib.import_module(f"kerasft.networks.{module}")
    run = importlib.import_module(f"kerasft.export.standalone.{runtime}").load(folder, machine.cpu_count())
    given = run(np.zeros((1, size, size, 3), np.float32)).shape[1]
    if given != len(names) or (task == "multi_label" and len(thresholds) != given):
        rule = f"the model gives {given} answers, {model_folders.LABELS_FILE} has {len(names)} names"
        raise UserError(f"--model: {rule}; they must be as many. Received: '{folder}'")
    answer = partial(_answer, task, np.array([name.encode() for name in names], STRING), thresholds)
    # Not every runtime may be called by two threads at once, and each uses all cores by itself.
    lock = threading.Lock()
    # The images of a batch are decoded side by side: Pillow and NumPy release Python's lock.
    pool = ThreadPoolExecutor(machine.cpu_count(), "decode")

    def from_pixels(images: list[np.ndarray]) -> dict[str, np.ndarray]:
        with lock:
            return answer(run(np.stack(images).astype(np.float32, copy=False)))

    def from_bytes(contents: list[bytes]) -> dict[str, np.ndarray]:
        found = []
        for start in range(0, len(contents), IMAGES_IN_MEMORY):
            images = np.stack(list(pool.map(decoded, contents[start : start + IMAGES_IN_MEMORY])))
            with lock:
                found.append(run(images))
        return answer(np.concatenate(found))

    decoded = partial(_decode, size=size, framing=framing)
    outputs = _output_specs(task, len(names))
    pixels = TensorSpec((None, size, size, 3), np.dtype(np.float32))
    signatures = {
        "images": Signature("images", pixels, outputs, from_pixels),
        "serving_default": Signature("image_bytes", TensorSpec((None,), STRING), outputs, from_bytes),
    }
    return LoadedModel(about, signatures, _definitions(signatures), PLATFORMS[runtime])


def _decode(contents: bytes, size: int, framing: str) -> np.ndarray:
    """Decodes what TensorFlow would decode.

    Raises:
        InvalidImage: it is damaged, has another format, or Pillow would make another size of it than was counted.
    """
    if image_headers.detect_format(contents) is None:
        raise InvalidImage(f"the image must have one of the formats {', '.join(image_headers.FORMATS)}")
    if file_traits.is_opaque_animated_webp(contents):
        raise InvalidImage("an animated WebP without transparency, which TensorFlow does not read: convert the file")
    # Pixels were counted from the header already, and Pillow's limit is another one.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(contents), formats=image_headers.FORMATS) as image:
            if image.size != image_headers.read_size(contents):
                raise InvalidImage("the image gives two sizes")
        return decode(contents, size, framing)
    except (MemoryError, InvalidImage):
        raise
    # Pillow raises half a dozen errors for a damaged file, and its plugins more.
    except Exception as error:  # noqa: BLE001
        raise InvalidImage(str(error) or type(error).__name__) from None


def _answer(task: str, names: np.ndarray, thresholds: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a SavedModel's `serving_default` (`saved_model.export`), from those of the network, float32 [N, C]."""
    if task == "regression":
        return {"values": found}
    # Equal scores in the order of the classes, as in `tf.math.top_k`.
    order = (-found).argsort(-1, kind="stable")[:, :TOP_K]
    given = {"classes": names[order]} | ({"predicted": found >= thresholds} if task == "multi_label" else {})
    return given | {"probabilities": found, "scores": np.take_along_axis(found, order, -1)}


def _output_specs(task: str, count: int) -> dict[str, TensorSpec]:
    def spec(dtype: Any, length: int) -> TensorSpec:
        return TensorSpec((None, length), np.dtype(dtype))

    if task == "regression":
        return {"values": spec(np.float32, count)}
    named = {"classes": spec(STRING, min(TOP_K, count)), "scores": spec(np.float32, min(TOP_K, count))}
    named |= {"probabilities": spec(np.float32, count)}
    named |= {"predicted": spec(bool, count)} if task == "multi_label" else {}
    return dict(sorted(named.items()))


def _definitions(signatures: dict[str, Signature]) -> dict[str, Any]:
    """`signature_def` as TensorFlow Serving shows it. An artefact has no graph whose tensors could be named."""
    return {
        name: {
            "inputs": {signature.name: _tensor_info(signature.name, signature.spec)},
            "outputs": {one: _tensor_info(one, spec) for one, spec in signature.outputs.items()},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for name, signature in signatures.items()
    }


def _tensor_info(name: str, spec: TensorSpec) -> dict[str, Any]:
    lengths = [{"size": str(-1 if length is None else length), "name": ""} for length in spec.shape]
    shape = {"dim": lengths, "unknown_rank": False}
    return {"dtype": _TYPE_NAMES[spec.dtype], "tensor_shape": shape, "name": name}
