"""Runs model.tflite with LiteRT."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load(folder: Path, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the model.

    Args:
        folder: of the model.
        threads: that compute; by default as many as there are cores.

    Returns:
        A function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C].
    """
    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=threads or os.cpu_count())
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images: np.ndarray) -> np.ndarray:
        answers = []
        # Another batch size would need other buffers, and leave the cache.
        for image in images:
            interpreter.set_tensor(given["index"], image[np.newaxis])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(found["index"]))
        return np.concatenate(answers)

    return answer
