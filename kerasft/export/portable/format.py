"""What a portable format is: how a network is written in it, which runtime runs it, and how exact it has to be."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft.networks.network import Network

# The names of the input and of the output in every format.
INPUT, OUTPUT = "images", "answers"


class Source(NamedTuple):
    """What a format is made of.

    Attributes:
        network: the trained network, in float32.
        calibration: gives training images, float32 [N, S, S, 3], RGB in 0..255, for the ranges of activations.
        corrected: gives the network for weights in 8 bits (`bias_correction`).
    """

    network: Network
    calibration: Callable[[], np.ndarray]
    corrected: Callable[[], Network]


@dataclass(frozen=True)
class Format:
    """A way to write a network for another runtime.

    The file takes images, float32 [N, S, S, 3], RGB in 0..255. It gives probabilities, float32 [N, C], or the values of
    a regression, float32 [N, D].

    Attributes:
        name: as `--export` takes it, such as `litert(precision=int8)`.
        runtime: name of its file in `standalone/`, without the ending.
        packages: that it is written with, by the names they are imported under.
        requirements: of the runtime, for pip.
        exact: whether it must answer as the network does, within `proof.TOLERANCE`. The others may lose `--max_drop`.
        write: writes the network into a folder.
        advice: what to try where it loses too much.
        eight_bits: whether it computes with weights in 8 bits, for which a network may be trained (phase `quantised`).
    """

    name: str
    runtime: str
    packages: tuple[str, ...]
    requirements: tuple[str, ...]
    exact: bool
    write: Callable[[Source, Path], None]
    advice: str = ""
    eight_bits: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder: letters, digits and hyphens."""
        words = "".join(c if c.isalnum() else " " for c in self.name.replace("precision=", "")).split()
        return "-".join(words)


def answers(network: Network) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the function that every format holds, traced for images float32 [N, S, S, 3]."""

    model = network.served()

    @tf.function(input_signature=[tf.TensorSpec([None, network.size, network.size, 3], tf.float32, INPUT)])
    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.cast(model(images, training=False), tf.float32)
        if network.task == "single_label":
            outputs = tf.nn.softmax(outputs)
        elif network.task == "multi_label":
            outputs = tf.sigmoid(outputs)
        return {OUTPUT: outputs}

    with _constant_statistics(model):
        answer.get_concrete_function()
    return answer


@contextmanager
def _constant_statistics(model: keras.Model) -> Iterator[None]:
    """Lets Normalization layers compute with constants. Converters take their tensors for inputs of the model."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Normalization)]
    tensors = [(layer.mean, layer.variance) for layer in layers]
    for layer in layers:
        layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    try:
        yield
    finally:
        for layer, (mean, variance) in zip(layers, tensors):
            layer.mean, layer.variance = mean, variance


@contextmanager
def as_saved_model(network: Network) -> Iterator[str]:
    """Gives the path of a SavedModel of `answers`, which converters read. It is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network.served())
        signature = [tf.TensorSpec([None, network.size, network.size, 3], tf.float32, INPUT)]
        archive.add_endpoint("serving_default", answers(network).python_function, signature)
        archive.write_out(folder, verbose=False)
        yield folder


def one_of(precision: object, choices: tuple[str, ...]) -> str:
    """Returns a precision that is among the choices. `precision=int8` gives a Spec, `precision='int8'` a text.

    Raises:
        ValueError: it is not.
    """
    if str(precision) not in choices:
        raise ValueError(f"precision must be one of {', '.join(choices)}")
    return str(precision)
