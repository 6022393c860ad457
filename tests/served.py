"""Small exported models of the three tasks, for the tests of serving."""

import base64
import io
from pathlib import Path

import numpy as np
from conftest import make_image

CLASSES = ("disc", "square")


def exported(path: Path, *, task: str = "single_label", seed: int = 0) -> Path:
    """A version of a random network, written as any export is but without its proof; `seed` makes another."""
    from kerasft.export import saved_model

    saved_model.write(_network(task, seed), _answer(task, seed), path)
    return path


def artefact(path: Path, form: str, *, task: str = "single_label", seed: int = 0) -> Path:
    """The same network for another runtime, `onnx` or `litert`, without its proof."""
    from kerasft.export.portable import FORMATS, publish
    from kerasft.export.portable.format import Source

    made, network = FORMATS[form](), _network(task, seed)
    path.mkdir(parents=True)
    made.write(Source(network, calibration=None, corrected=lambda: network), path)
    publish.write_program(made, network, _answer(task, seed), path)
    return path


def _answer(task: str, seed: int):
    from kerasft.export.artefact import Answer

    limits = np.array([0.2, 0.7], np.float32) if task == "multi_label" else None
    return Answer(f"run-{seed}", CLASSES, limits)


def _network(task: str, seed: int):
    import keras

    from kerasft.networks.network import Network

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    features = layers.GlobalAveragePooling2D(name="features")(hidden)
    outputs = layers.Dense(2, name="logits", kernel_initializer=keras.initializers.RandomNormal(stddev=3.0))(features)
    return Network(keras.Model(inputs, outputs), "random", task, 32, False, "random", (), ())


def photo(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (60, 48)) -> bytes:
    """An encoded image."""
    file = io.BytesIO()
    make_image("disc" if seed % 2 else "square", np.random.default_rng(seed)).resize(size).save(file, kind)
    return file.getvalue()


def b64(contents: bytes) -> dict:
    """A binary value as TensorFlow Serving's JSON has it."""
    return {"b64": base64.b64encode(contents).decode()}
