"""Runs model.xml with OpenVINO, in float32: by default it computes in bfloat16 where the processor can."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino

# Images of a call. On a processor more of them are no faster, for they leave the cache, and they need more memory.
PER_CALL = 2


def load(folder: Path, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the model.

    Args:
        folder: of the model.
        threads: that compute; by default as many as there are cores.

    Returns:
        A function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C].
    """
    # 0 leaves the number to the runtime.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads or 0}
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)

    def answer(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), PER_CALL)
        # It gives a view of a buffer that the next call writes to.
        return np.concatenate([np.array(model(images[i : i + PER_CALL])[0]) for i in starts])

    return answer
