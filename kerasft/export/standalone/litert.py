"""Runs model.tflite with LiteRT."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images, float32 [N, S, S, 3], RGB in 0..255, to the model's answers, float32 [N, C]."""
    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = None

    def answer(images: np.ndarray) -> np.ndarray:
        nonlocal shape
        if images.shape != shape:
            shape = images.shape
            interpreter.resize_tensor_input(given["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return answer
