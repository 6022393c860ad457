"""Runs model.q8.npz or model.q4.npz with Keras: its weights become float32 again, always the same.

    python -c "from runtime import unpack; unpack('.').save('model.keras')"

That model takes images, float32 [N, S, S, 3], RGB in 0..255, and gives logits, or the values of a regression.
"""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np


def unpack(folder: Path | str) -> keras.Model:
    """Makes the model of the file in a folder.

    Raises:
        ValueError: there is no such file, or more than one.
    """
    found = sorted(Path(folder).glob("model.q[48].npz"))
    if len(found) != 1:
        raise ValueError(f"must have one file, model.q8.npz or model.q4.npz. Received: '{folder}'")
    with np.load(found[0], allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    # Keras refuses code in it: this is its safe mode.
    model = keras.models.model_from_json(arrays["architecture"].tobytes().decode())
    model.set_weights([_weight(arrays, index) for index in range(len(model.weights))])
    for layer in model._flatten_layers():
        # It computes with copies of its weights.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def _weight(arrays: dict[str, np.ndarray], index: int) -> np.ndarray:
    if f"whole/{index}" in arrays:
        return arrays[f"whole/{index}"]
    values, scales, shape = (arrays[f"{part}/{index}"] for part in ("values", "scales", "shape"))
    if values.dtype == np.uint8:
        halves = np.stack([values & 15, values >> 4], 1).reshape(-1)[: np.prod(shape)]
        values = (halves.astype(np.int8) - 8).reshape(-1, scales.shape[1])
    # Each group of rows has its own scales; the last group may be smaller.
    size = len(values) if len(scales) == 1 else 64
    return (values * scales.repeat(size, axis=0)[: len(values)]).astype(np.float32).reshape(shape)


def load(folder: Path, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the model.

    Args:
        folder: of the model.
        threads: ignored; Keras's backend takes all cores.

    Returns:
        A function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C].
    """
    model = unpack(folder)
    task = json.loads((folder / "model.json").read_text(encoding="utf-8"))["task"]

    def answer(images: np.ndarray) -> np.ndarray:
        outputs = keras.ops.convert_to_numpy(model.predict_on_batch(images)).astype(np.float32)
        if task == "single_label":
            powers = np.exp(outputs - outputs.max(-1, keepdims=True))
            return powers / powers.sum(-1, keepdims=True)
        return 1 / (1 + np.exp(-outputs)) if task == "multi_label" else outputs

    return answer
