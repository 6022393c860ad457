"""Runs model.xml with OpenVINO, in float32: by default it computes in bfloat16 where the processor can."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C]."""
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: model(images)[0]
