"""Runs model.onnx with ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

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
    options = onnxruntime.SessionOptions()
    # 0 leaves the number to the runtime.
    options.intra_op_num_threads = threads or 0
    # Else waiting threads keep the cores busy, which decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def answer(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), PER_CALL)
        return np.concatenate([session.run(None, {given.name: images[i : i + PER_CALL]})[0] for i in starts])

    return answer
