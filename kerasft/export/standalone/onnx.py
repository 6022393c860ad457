"""Runs model.onnx with ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C]."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})[0]
