"""`model.keras` in the run folder: images to logits, for Keras, proven as every artefact is."""

import os
from pathlib import Path

import keras
import numpy as np

from kerasft.data import pipeline
from kerasft.data.splits import Split
from kerasft.evaluation import scoring
from kerasft.export.artefact import Answer, Artefact
from kerasft.export.proof import UnreadableError
from kerasft.networks import saved_files
from kerasft.networks.network import Network
from kerasft.storage import run_folder

KERAS_FILE = "model.keras"


def write(network: Network, answer: Answer, folder: Path) -> None:
    """Writes `model.keras` into a folder. Names and thresholds stay out: the file gives logits or values."""
    # Not compiled, so that Keras alone can load it: the loss is a function of ours.
    model = network.served()
    # One tensor, not a list of one: `model(images)` then warns of nothing.
    plain = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    run_folder.write_by_name(folder / KERAS_FILE, plain.save)


def outputs(folder: Path, network: Network, split: Split) -> np.ndarray:
    """What the file answers: probabilities float64 [N, C], or values [N, D].

    The file takes pixels, so the images come from our decoder. Those that the split holds decoded are not decoded again.

    Raises:
        UnreadableError: Keras refuses it in safe mode, as it does a Lambda layer from outside.
    """
    try:
        model = saved_files.read(folder / KERAS_FILE)
    except saved_files.REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UnreadableError(f"export: Keras cannot load {KERAS_FILE} again ({reason}); it was not kept.") from error
    stream = pipeline.evaluation_stream(split, size=network.size, batch_size=pipeline.EVALUATION_BATCH_SIZE)
    return scoring.apply_activation(network.task, scoring.make_predictor(model)(stream))


def place(draft: Path, folder: Path) -> Path:
    """Renames the file in a draft to `model.keras` in the folder, over an earlier one."""
    path = folder / KERAS_FILE
    os.replace(draft / KERAS_FILE, path)
    return path


KERAS_MODEL = Artefact(KERAS_FILE, write, outputs, place)
